"""Run a grid on this machine: what is missing of it, several runs at a time."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence

from nanollama.config import Config
from nanollama.errors import EXIT_FAILED, EXIT_OK, Preempted, UserError
from nanollama.launcher.command import describe_command, launch
from nanollama.launcher.grid.expand import GridConfig, GridRun, uncollected
from nanollama.launcher.grid.starts import check_starts
from nanollama.launcher.local.drive import own, start
from nanollama.launcher.local.needs import check_needs, run_needs
from nanollama.launcher.plan import Plan, read_grid
from nanollama.launcher.screen import state_lines, summarise
from nanollama.launcher.settings import LocalConfig
from nanollama.launcher.slurm.queue import read_queue
from nanollama.launcher.states import (
    ACTIVE,
    BROKEN,
    KILLED,
    State,
    check_folder,
    check_queued,
    has_loaded,
    inspect,
    inspect_needed,
    is_void,
    parents_first,
)
from nanollama.monitor.successor import cancel_order, is_ordered_anew
from nanollama.wording import count

RESULTS = "results.csv"

Choice = Callable[[GridRun, State], bool]


def main(argv: Sequence[str] | None = None, program: str = "nanollama grid run") -> int:
    """The command ``python -m apps.<study>.local_grid [config=]PATH [key=value ...] [--dry-run]``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    about = (
        "Run what is missing of a grid, several runs at a time, and first what it needs. Ctrl-C saves and "
        "stops; run again, without overwrite=true, to go on."
    )
    sections: dict[str, type[Config]] = {"grid": GridConfig, "local": LocalConfig}
    usage = f"{program} [config=]PATH [key=value ...]"
    return launch(arguments, read_grid, run_missing, lambda: describe_command(usage, about, {}, sections))


def run_missing(plan: Plan, choose: Choice = lambda run, state: True) -> int:
    """Run what is not finished; one line for each run that ends, and a summary.

    Args:
        plan: a grid.
        choose: which runs; of them, what is not finished is run, and with `overwrite` all, anew.

    Returns:
        0 when what was chosen is finished, 1 when a run has failed or something expected was missed.

    Raises:
        Preempted: asked to stop; the same command goes on, without `overwrite`.
        UserError: a folder cannot be used, another process runs this grid, or what is to be done to a model
            cannot be.
    """
    with own(plan) as lock:
        take_back_orders(plan.runs)
        states = inspect_all(plan)
        chosen = [run for run in plan.runs if choose(run, states[run.name])]
        check_runs(plan, chosen, states)
        active = [run.name for run in chosen if states[run.name].kind in ACTIVE]
        if active:
            why = f" ({states[active[0]].reason})" if states[active[0]].reason else ""
            runs = count(len(active), "run")
            print(f"Left out, queued or running elsewhere: {runs}, such as {active[0]}{why}.")
        anew = {run.name for run in chosen} if plan.overwrite else set()
        finished = {run.name for run in plan.runs if states[run.name].kind == "finished"} - anew
        missing, behind = parents_first(
            [run for run in chosen if run.name not in finished and run.name not in active],
            finished,
            {run.name for run in chosen if has_loaded(run)} - anew,
        )
        if behind:
            print(
                f"Left out, what they start from is not finished: {count(len(behind), 'run')}, such as "
                f"{behind[0].name}."
            )
        if missing and (busy := check_needs(plan, states)) is not None:
            print(
                f"Left out, {busy} is {states[busy].kind} elsewhere and has to finish first: "
                f"{count(len(missing), 'run')}, such as {missing[0].name}."
            )
            missing = []
        if missing:
            check_starts(plan)
            if run_needs(plan, lock):
                check_starts(plan)  # also of the models that are there only now
                prepare(plan)
                start(plan, missing, [lock], n_finished=len(finished))
        return _conclude(plan, inspect_all(plan), missing)


def check_runs(plan: Plan, chosen: Sequence[GridRun], states: Mapping[str, State]) -> None:
    """Refuse to start runs anew that are not at rest, and folders that hold the work of other runs.

    What is stale and would not be started is left alone.

    Args:
        plan: all runs.
        chosen: those that would be started.
        states: of all.

    Raises:
        UserError: naming the first.
    """
    names = {run.name for run in chosen}
    anew = names if plan.overwrite else set()
    for run in plan.runs:
        state = states[run.name]
        left_alone = is_ordered_anew(run.folder) or (state.kind == "stale" and run.name not in names)
        if run.name not in anew and not left_alone:
            check_folder(run, state)
        elif run.name in anew and state.kind in ACTIVE:
            raise UserError(f"The run {run.name} is {state.kind}: cancel it before overwrite=true.")
        if run.name not in anew:
            check_queued(run, state)


def inspect_all(plan: Plan) -> dict[str, State]:
    """The states of all runs, by name; first of those that are needed."""
    queue = read_queue()
    states = {run.name: inspect_needed(run, queue) for run in plan.needed}
    with uncollected():
        for run in plan.runs:  # parents come first
            parents = {name: states[name] for name in (*run.needs, *run.after)}
            states[run.name] = inspect(run, queue, parents)
    return states


def take_back_orders(runs: Sequence[GridRun]) -> None:
    """Let what a cancelled job was to start anew go on instead; for who is about to start runs."""
    ordered = [run for run in runs if is_ordered_anew(run.folder)]
    queue = read_queue() if ordered else None
    for run in ordered:
        if is_void(run, queue):
            cancel_order(run.folder)


def of_grid(plan: Plan, states: Mapping[str, State]) -> dict[str, State]:
    """The states of the runs of a grid, without those that it needs."""
    return {run.name: states[run.name] for run in plan.runs}


def prepare(plan: Plan) -> None:
    """Let the study make what several runs would otherwise make at once, such as files of data.

    A study that needs it has a module ``prepare`` with ``prepare(configs)``. Runs that await the model of a
    run which has not left it yet make what they miss themselves.
    """
    name = f"{plan.module.rpartition('.')[0]}.prepare"
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name).prepare([run.config for run in plan.runs if not plan.awaits(run)])


def _conclude(plan: Plan, states: Mapping[str, State], asked: Sequence[GridRun]) -> int:
    """Say what became of the grid; see `run_missing`."""
    own = of_grid(plan, states)
    kinds = {state.kind for state in own.values()}
    print(f"{plan.folder}: {summarise(own)}")
    for line in state_lines({n: s for n, s in states.items() if s.kind in BROKEN}, len(states)):
        print(line)
    if kinds == {"finished"}:
        return _show_outcome(plan)
    if any(state.kind in BROKEN for state in states.values()):
        return EXIT_FAILED
    if all(states[run.name].kind == "finished" for run in asked):
        if kinds - {"finished", *ACTIVE}:
            busy = [run.name for run in plan.needed if states[run.name].kind in ACTIVE]
            then = f", once {busy[0]} has finished" if busy else ""
            print(f"The others were left out: `nanollama grid run` runs them{then}.")
        return EXIT_OK
    how = "the same command without overwrite=true goes on" if plan.overwrite else "run the command again"
    killed = sum(states[run.name].reason == KILLED for run in asked)
    end = "what was running is saved"
    if killed:
        end = f"{count(killed, 'run')} killed before the state was saved, which is the last checkpoint's now"
    raise Preempted(f"Stopped before the end of the grid, {end}: {how}.")


def _show_outcome(plan: Plan) -> int:
    from nanollama.launcher.grid.outcome import judge_grid, show_outcome
    from nanollama.launcher.grid.results import collect, write_table

    rows = collect(plan)
    print(f"results in {write_table(rows, plan.folder / RESULTS)}")
    return show_outcome(judge_grid(plan, rows))
