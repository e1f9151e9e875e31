"""Run a grid on this machine: what is missing of it, several runs at a time."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nanollama.config import Config
from nanollama.errors import EXIT_FAILED, EXIT_OK, Preempted, UserError
from nanollama.launcher.command import describe_command, launch
from nanollama.launcher.grid.expand import GridConfig, GridRun
from nanollama.launcher.grid.starts import check_starts
from nanollama.launcher.local.pool import Pool, Server
from nanollama.launcher.local.share import devices_of, share_machine
from nanollama.launcher.plan import Plan, read_grid
from nanollama.launcher.screen import Screen, state_lines, summarise
from nanollama.launcher.settings import LocalConfig
from nanollama.launcher.slurm.queue import read_queue
from nanollama.launcher.states import State, check_folder, has_loaded, inspect, mark_anew, parents_first
from nanollama.monitor.successor import is_ordered_anew
from nanollama.wording import count

LOCK, RESULTS = ".grid.lock", "results.csv"
PATIENCE_SECONDS = 60.0
"""How long to wait for the runs of a driver that was killed: they were asked to stop, and save first."""
ACTIVE = ("running", "queued")
"""Kinds of runs that somebody is at work on."""
BROKEN = ("failed", "stale")
"""Kinds of runs that nothing comes of before somebody does something."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Choice = Callable[[State], bool]


def main(argv: Sequence[str] | None = None, program: str = "nanollama grid run") -> int:
    """The command ``python -m apps.<study>.local_grid [config=]PATH [key=value ...] [--dry-run]``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    about = (
        "Run what is missing of a grid, several runs at a time. Ctrl-C saves and stops; run again to go on."
    )
    sections: dict[str, type[Config]] = {"grid": GridConfig, "local": LocalConfig}
    usage = f"{program} [config=]PATH [key=value ...]"
    return launch(arguments, read_grid, run_missing, lambda: describe_command(usage, about, {}, sections))


def run_missing(plan: Plan, choose: Choice = lambda state: True) -> int:
    """Run what is not finished; one line for each run that ends, and a summary.

    Args:
        plan: a grid.
        choose: which runs; of them, what is not finished is run, and with `overwrite` all, anew.

    Returns:
        0 when what was chosen is finished, 1 when a run has failed or something expected was missed.

    Raises:
        Preempted: asked to stop; the same command goes on.
        UserError: a folder cannot be used, another process runs this grid, or what is to be done to a model
            cannot be.
    """
    with _own(plan.folder) as lock:
        states = inspect_all(plan)
        chosen = [run for run in plan.runs if choose(states[run.name])]
        check_runs(plan, chosen, states)
        active = [run.name for run in chosen if states[run.name].kind in ACTIVE]
        if active:
            print(f"Left out, queued or running elsewhere: {count(len(active), 'run')}, such as {active[0]}.")
        anew = {run.name for run in chosen} if plan.overwrite else set()
        finished = {name for name, state in states.items() if state.kind == "finished"} - anew
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
        if missing:
            check_starts(plan)
            prepare(plan)
            _run(plan, missing, lock, n_finished=len(finished))
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


def inspect_all(plan: Plan) -> dict[str, State]:
    """The states of all runs, by name."""
    queue = read_queue()
    states: dict[str, State] = {}
    for run in plan.runs:  # parents come first
        states[run.name] = inspect(run, queue, {name: states[name] for name in run.after})
    return states


def prepare(plan: Plan) -> None:
    """Let the study make what several runs would otherwise make at once, such as files of data.

    A study that needs it has a module ``prepare`` with ``prepare(configs)``.
    """
    name = f"{plan.module.rpartition('.')[0]}.prepare"
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name).prepare([run.config for run in plan.runs])


def _run(plan: Plan, missing: Sequence[GridRun], lock: int, n_finished: int) -> None:
    shares = share_machine(plan.local, devices_of(missing))
    server = Server(plan.module, shares.n_threads, keep_open=[lock])
    try:
        if plan.overwrite:  # once the study is imported: what is refused before that leaves no order
            for run in missing:
                mark_anew(run)
        with Screen(len(plan.runs), n_finished, shares.n_jobs).open() as screen:
            pool = Pool(server, shares.n_jobs, shares.gpus, screen)
            with _signals(pool.ask_to_stop):
                pool.run(missing)
    except OSError as error:
        raise UserError(
            f"The grid in {plan.folder} cannot be run, writing there failed: {error.strerror or error}."
        ) from error
    finally:
        server.close()


def _conclude(plan: Plan, states: Mapping[str, State], asked: Sequence[GridRun]) -> int:
    """Say what became of the grid; see `run_missing`."""
    kinds = {state.kind for state in states.values()}
    print(f"{plan.folder}: {summarise(states)}")
    for line in state_lines({n: s for n, s in states.items() if s.kind in BROKEN}, len(states)):
        print(line)
    if kinds == {"finished"}:
        return _show_outcome(plan)
    if kinds.intersection(BROKEN):
        return EXIT_FAILED
    if all(states[run.name].kind == "finished" for run in asked):
        if kinds - {"finished", *ACTIVE}:
            print("The others were left out: `nanollama grid run` runs them.")
        return EXIT_OK
    raise Preempted("Stopped before the end of the grid, what was running is saved: run the command again.")


def _show_outcome(plan: Plan) -> int:
    from nanollama.launcher.grid.outcome import judge_grid, show_outcome
    from nanollama.launcher.grid.results import collect, write_table

    rows = collect(plan)
    print(f"results in {write_table(rows, plan.folder / RESULTS)}")
    return show_outcome(judge_grid(plan, rows))


@contextmanager
def _own(folder: Path) -> Iterator[int]:
    """Be the only driver of a grid; the lock lasts until the last process of its runs has ended."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"The grid in {folder} cannot be run, writing there failed: {error.strerror}."
        ) from error
    try:
        _take(lock, folder)
        yield lock
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    end, said = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        if time.monotonic() >= end:
            raise UserError(f"The grid in {folder} is being run by another process: wait for its end.")
        if not said:
            print(f"Waiting for the processes that still run in {folder} ...", file=sys.stderr)
            said = True
        time.sleep(0.2)


@contextmanager
def _signals(ask_to_stop: Callable[[], None]) -> Iterator[None]:
    """Turn requests to stop into calls."""

    def hear(number: int, frame: FrameType | None) -> None:
        ask_to_stop()

    previous = {number: signal.signal(number, hear) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
