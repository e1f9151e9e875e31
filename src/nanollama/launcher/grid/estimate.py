"""What the runs of a grid will cost: parameters, operations, and the time that like runs have taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from nanollama.launcher.grid.starts import check_starts
from nanollama.launcher.plan import Plan
from nanollama.launcher.slurm.queue import read_queue
from nanollama.launcher.states import inspect, inspect_needed
from nanollama.model import outline
from nanollama.wording import count, show


class Cost(NamedTuple):
    """Of one run.

    Args:
        n_params: of its model; None when the config has no model.
        flops: at most, of its training: every example as long as the model can read; 0 when not known.
    """

    n_params: int | None
    flops: float


def describe_plan(plan: Plan) -> Iterator[str]:
    """A table of the runs: name, what varies, parameters, operations, time where runs have finished.

    Runs are in the order in which they are started: first what the grid needs, which its sums are without.
    One that starts from another says so; the size of a model that is not there yet is not known.

    Raises:
        UserError: what is to be done to a model cannot be.
    """
    check_starts(plan)
    costs = [*_costs(plan)]
    rate = _seconds_per_flop(plan, costs)
    total = sum(cost.flops for cost in costs)
    rows = []
    queue = read_queue() if plan.needs else None
    for need in plan.needs:
        (cost,) = _costs(need)
        where = f"by {need.module} in {need.folder}, {inspect_needed(need.runs[0], queue).kind}"
        rows.append((need.name, _count(cost.n_params), _flops(cost.flops), "", where))
    for run, cost in zip(plan.runs, costs, strict=True):
        values = " ".join(f"{key}={show(value)}" for key, value in run.values.items())
        values += "".join(f"  after {name}" for name in (*run.needs, *run.after))
        seconds = cost.flops * rate
        rows.append((run.name, _count(cost.n_params), _flops(cost.flops), _time(seconds), values))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    flops = f", at most {_flops(total)}" if total else ""
    time = f", about {_time(total * rate)} one after another" if rate else ""
    yield f"{count(len(plan.runs), 'run')} in {plan.folder}{flops}{time}"


def _costs(plan: Plan) -> Iterator[Cost]:
    """Of each run; every model is built once, without memory for its weights, as its first step finds it."""
    models: dict[tuple[str, ...], tuple[int, int]] = {}
    for run in plan.runs:
        model, training = run.model, run.training
        if model is None or training is None or plan.awaits(run):
            yield Cost(None, 0.0)
            continue
        first = [one for one in getattr(run.config, "interventions", ()) if one.at_step == 0]
        key = (model.model_dump_json(), *(one.model_dump_json() for one in first))
        if key not in models:
            models[key] = _measure(model, first)
        n_params, forward_flops = models[key]
        yield Cost(n_params, 3.0 * forward_flops * training.batch_size * training.n_steps)


def _measure(config: Any, interventions: Sequence[Any]) -> tuple[int, int]:
    from nanollama.training.interventions import build_interventions, restructure

    model = outline(config)
    restructure(build_interventions(interventions, seed=0), model, step=1)
    return model.n_params(), model.forward_flops(config.max_seq_len)


def _seconds_per_flop(plan: Plan, costs: Sequence[Cost]) -> float:
    """How long the finished runs took for what they were estimated at; 0 before one has finished."""
    seconds = flops = 0.0
    for run, cost in zip(plan.runs, costs, strict=True):
        state = inspect(run)
        if state.kind == "finished":
            seconds += state.result["seconds"]
            flops += cost.flops
    return seconds / flops if flops else 0.0


def _count(n_params: int | None) -> str:
    return "" if n_params is None else f"{n_params:,} parameters"


def _flops(flops: float) -> str:
    return f"{flops:.1e} FLOPs" if flops else ""


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds else ""
