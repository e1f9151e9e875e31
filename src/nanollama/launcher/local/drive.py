"""The driver of a plan on this machine: it holds the folder, starts the runs, and hears requests to stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from nanollama.errors import Preempted, UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.local.pool import Pool, Server
from nanollama.launcher.local.share import devices_of, share_machine
from nanollama.launcher.plan import Plan
from nanollama.launcher.screen import Screen
from nanollama.launcher.states import mark_anew
from nanollama.monitor.locks import take_lock
from nanollama.monitor.preemption import heard
from nanollama.monitor.successor import cancel_order, is_ordered_anew

LOCK = ".grid.lock"
PATIENCE_SECONDS = 60.0
"""How long to wait for the runs of a driver that was killed: they were asked to stop, and save first."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(plan: Plan, missing: Sequence[GridRun], locks: Sequence[int], n_finished: int) -> bool:
    """Run runs of a plan to their ends.

    Args:
        plan: whose runs they are.
        missing: those to be started.
        locks: descriptors that last until the last process of the runs has ended.
        n_finished: how many have finished before.

    Returns:
        False if somebody has asked to stop meanwhile.

    Raises:
        Preempted: it was to start runs anew, and was asked to stop before one had begun: all is as before.
        UserError: the module of the runs cannot be imported, or the folder cannot be written to.
    """
    shares = share_machine(plan.local, devices_of(missing))
    server = Server(plan.module, shares.n_threads, keep_open=locks)
    try:
        # once the study is imported: what is refused before that leaves no order
        ordered = _order(missing) if plan.overwrite else []
        with Screen(len(plan.runs), n_finished, shares.n_jobs).open() as screen:
            pool = Pool(server, shares.n_jobs, shares.gpus, screen)
            with _signals(pool.ask_to_stop):
                pool.run(missing)
        if pool.was_asked_to_stop and ordered:
            _take_back(ordered)
        return not pool.was_asked_to_stop
    except OSError as error:
        raise UserError(
            f"The {_kind(plan)} in {plan.folder} cannot be run, writing there failed: "
            f"{error.strerror or error}."
        ) from error
    finally:
        server.close()


def _order(runs: Sequence[GridRun]) -> list[GridRun]:
    """Let runs start anew; those of them that hold something. None if a start anew was going on with them."""
    goes_on = any(is_ordered_anew(run.folder) for run in runs)
    for run in runs:
        mark_anew(run)
    return [] if goes_on else [run for run in runs if is_ordered_anew(run.folder)]


def _take_back(ordered: Sequence[GridRun]) -> None:
    """Undo orders if none was carried out yet, as when ``overwrite=true`` was typed by mistake.

    Has a run begun anew, the others are still to: a grid of old runs and new ones is judged by nobody.
    """
    if all(is_ordered_anew(run.folder) for run in ordered):
        for run in ordered:
            cancel_order(run.folder)
        raise Preempted(
            "Stopped before a run had begun anew: what was there is kept and counts; the same command with "
            "overwrite=true starts it anew."
        )


@contextmanager
def own(plan: Plan) -> Iterator[int]:
    """Be the only driver of a plan; the lock lasts until the last process of its runs has ended."""
    folder = plan.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"The {_kind(plan)} in {folder} cannot be run, writing there failed: {error.strerror}."
        ) from error
    try:
        _take(lock, plan)
        yield lock
    finally:
        os.close(lock)


def _kind(plan: Plan) -> str:
    return "run" if plan.seed_key is None else "grid"


def _take(lock: int, plan: Plan) -> None:
    folder = plan.folder
    end, said = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        if take_lock(lock, folder):
            return
        if time.monotonic() >= end:
            raise UserError(
                f"The {_kind(plan)} in {folder} is being run by another process: wait for its end."
            )
        if not said:
            print(f"Waiting for the processes that still run in {folder} ...", file=sys.stderr)
            said = True
        time.sleep(0.2)


@contextmanager
def _signals(ask_to_stop: Callable[[], None]) -> Iterator[None]:
    """Turn requests to stop into calls."""

    def hear(number: int, frame: FrameType | None) -> None:
        ask_to_stop()

    previous = {number: signal.signal(number, hear) for number in heard(STOP_SIGNALS)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
