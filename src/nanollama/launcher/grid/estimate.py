"""What the runs of a grid will cost: parameters, operations, and the time that like runs have taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.states import inspect
from nanollama.wording import count, show


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Args:
        n_params: of its model; None when the config has no model.
        flops: at most, of its training: every example as long as the model can read; 0 when not known.
    """

    n_params: int | None
    flops: float


def describe_plan(plan: Plan) -> Iterator[str]:
    """A table of the runs: name, what varies, parameters, operations, time where runs have finished.

    Runs are in the order in which they are started; one that starts from another says so.
    """
    costs = _Costs()
    rate = _seconds_per_flop(plan, costs)
    rows, total = [], 0.0
    for run in plan.runs:
        cost = costs.of(run)
        total += cost.flops
        values = " ".join(f"{key}={show(value)}" for key, value in run.values.items())
        values += "".join(f"  after {name}" for name in run.after)
        seconds = cost.flops * rate
        rows.append((run.name, _count(cost.n_params), _flops(cost.flops), _time(seconds), values))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    flops = f", at most {_flops(total)}" if total else ""
    time = f", about {_time(total * rate)} one after another" if rate else ""
    yield f"{count(len(rows), 'run')} in {plan.folder}{flops}{time}"


class _Costs:
    """Costs of runs; each model is built once, without memory for its weights."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[int, float]] = {}

    def of(self, run: GridRun) -> Cost:
        model, training = getattr(run.config, "model", None), getattr(run.config, "training", None)
        if model is None or training is None:
            return Cost(None, 0.0)
        key = model.model_dump_json()
        if key not in self._models:
            self._models[key] = _measure(model)
        n_params, forward_flops = self._models[key]
        return Cost(n_params, 3.0 * forward_flops * training.batch_size * training.n_steps)


def _measure(config: Any) -> tuple[int, float]:
    import torch

    from nanollama.model import model_class

    with torch.device("meta"):
        model = model_class(config)(config)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    return n_params, float(model.forward_flops(config.max_seq_len))


def _seconds_per_flop(plan: Plan, costs: _Costs) -> float:
    """How long the finished runs took for what they were estimated at; 0 before one has finished."""
    seconds = flops = 0.0
    for run in plan.runs:
        state = inspect(run)
        if state.kind == "finished":
            seconds += state.result["seconds"]
            flops += costs.of(run).flops
    return seconds / flops if flops else 0.0


def _count(n_params: int | None) -> str:
    return "" if n_params is None else f"{n_params:,} parameters"


def _flops(flops: float) -> str:
    return f"{flops:.1e} FLOPs" if flops else ""


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds else ""
