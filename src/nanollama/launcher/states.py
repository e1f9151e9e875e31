"""What became of a run, read from its folder."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from nanollama.errors import EXIT_OK, EXIT_PREEMPTED, UserError
from nanollama.launcher.attempts import (
    LAUNCH,
    LAUNCH_CONFIG,
    Launch,
    describe_exit,
    read_launch,
    saved_step,
)
from nanollama.launcher.grid.arms import INTERVENTIONS
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.slurm.queue import Queue
from nanollama.monitor.ending import check_decided
from nanollama.monitor.files import read_json, write_atomically
from nanollama.monitor.origin import lost_origins
from nanollama.monitor.run_folder import RESULT, check_config, differs, dump_to_go_on, is_held
from nanollama.monitor.successor import CONFIG, is_ordered_anew, order_anew
from nanollama.training.intervention_config import LoadConfig

Kind = Literal["finished", "running", "failed", "stale", "stopped", "queued", "waiting"]
KINDS: tuple[Kind, ...] = ("finished", "running", "failed", "stale", "stopped", "queued", "waiting")
"""Stale: it began from weights that are others now. Stopped: asked to, its state is saved. Queued: Slurm has
it. Waiting: to be started, or started again."""

ACTIVE: tuple[Kind, ...] = ("running", "queued")
"""Somebody is at work on it."""
BROKEN: tuple[Kind, ...] = ("failed", "stale")
"""Nothing comes of it before somebody does something."""

WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""States of Slurm's jobs that are to start, perhaps again."""

TIME_TO_OPEN = timedelta(minutes=5)
"""So long after the start of its process a run may not have opened its folder yet."""
REMEDY = (
    "remove its folder, or start it anew with `nanollama grid retry CONFIG overwrite=true`, as all that has "
    "failed (`grid retry` lets that go on first)"
)
BY_HAND = "by hand"
"""Why a run is at work of which the last attempt by a launcher has ended."""
KILLED = "killed before it had saved: it goes on from its last checkpoint"
ORDERED = (
    "ordered to start anew: what is there is kept until it has begun, and counts again once the file .anew "
    "is removed from its folder"
)


@dataclass(frozen=True)
class State:
    """What became of a run.

    Args:
        kind: in a word.
        result: ``result.json``, empty when there is none.
        reason: why it failed or was stopped, what it waits for, or `BY_HAND`.
    """

    kind: Kind
    result: dict[str, Any]
    reason: str = ""


def inspect(
    run: GridRun, queue: Queue | None = None, parents: Mapping[str, State] = MappingProxyType({})
) -> State:
    """The state of a run; one that is to start anew is not finished, whatever it has left.

    Args:
        run: of a grid, or alone.
        queue: what Slurm holds; None: what the run folder says of its jobs is believed.
        parents: the states of the runs that it needs or starts from, by name.
    """
    result = read_json(os.path.join(run.folder, RESULT))
    finished = result.get("status") == "finished"
    anew = is_to_start_anew(run, queue)
    if finished and not anew:
        return _stale(run, result, parents) or State("finished", result)
    waiting = State("waiting", result, ORDERED if finished else "")
    launch = read_launch(run.folder)
    state = waiting if launch is None else _of_attempt(run, launch, queue, waiting)
    if state.kind not in ("running", "queued") and is_held(run.folder):
        return State("running", result, BY_HAND)
    if state.kind not in ("running", "queued") and not anew and (stale := _stale(run, result, parents)):
        return stale
    if state.kind not in ("waiting", "queued") and launch is not None and not launch.queued:
        return state  # it has begun
    if state.kind != "queued" and has_loaded(run):
        parents = {name: parent for name, parent in parents.items() if name in run.needs}
    return _behind(state, parents)


def inspect_needed(run: GridRun, queue: Queue | None = None) -> State:
    """`inspect` of a run that a grid needs: has its process not ended well, the run has not finished yet.

    After its last step it may still be about to write what others start from. One that was run by hand has
    its result alone to tell.
    """
    state, launch = inspect(run, queue), read_launch(run.folder)
    if state.kind == "finished" and is_held(run.folder):
        return State("running", state.result, BY_HAND)  # nothing else tells
    if state.kind != "finished" or launch is None or launch.exit_code == EXIT_OK:
        return state
    return _of_attempt(run, launch, queue, State("waiting", state.result))


def is_to_start_anew(run: GridRun, queue: Queue | None) -> bool:
    """Is a run ordered to start anew, and is the order not void?"""
    return is_ordered_anew(run.folder) and not is_void(run, queue)


def is_void(run: GridRun, queue: Queue | None) -> bool:
    """Was it a Slurm job that had the order to start a run anew, and is that gone before the run had begun?

    Who cancels the job takes the order back: what the run has left counts, and is gone on with. An order of
    a driver on this machine lasts, since the grid that was stopped goes on with it.
    """
    launch = read_launch(run.folder) if is_ordered_anew(run.folder) else None
    if launch is None or launch.exit_code not in (None, EXIT_PREEMPTED) or is_held(run.folder):
        return False
    if not launch.job:
        return launch.queued and not _process_lives(launch)  # its submission was killed
    return queue is not None and launch.job not in queue


def has_loaded(run: GridRun) -> bool:
    """Is what the run starts from in a checkpoint of its own, so that it goes on without it?"""
    return bool(run.after) and saved_step(run.folder) > 0


def _stale(run: GridRun, result: dict[str, Any], parents: Mapping[str, State]) -> State | None:
    """The state of a run whose weights were made of what is there no more; None if nothing says so."""
    loads = any(isinstance(one, LoadConfig) for one in getattr(run.config, INTERVENTIONS, ()))
    if not loads and not run.needs:
        return None  # the file that tells is long
    done = math.inf if result.get("status") == "finished" else saved_step(run.folder)
    if done == 0:
        return None
    whys = [*lost_origins(run.folder, done)]
    for name, parent in parents.items():
        if parent.kind == "stale":
            whys.append(f"it began from {name}, but it is stale itself")
    return State("stale", result, whys[0]) if whys else None


def not_run(parent: str) -> str:
    """Why a run has failed that starts from one that has failed."""
    return f"not run: it starts from {parent}, which has failed"


def parents_first(
    runs: Sequence[GridRun], done: Collection[str], begun: Collection[str] = ()
) -> tuple[list[GridRun], list[GridRun]]:
    """Runs that can be run in their order, and those that cannot, as they start from none of them.

    Args:
        runs: of a grid, in its order.
        done: names of the runs that may be started from already.
        begun: names of those that need not be started from any more, see `has_loaded`.
    """
    known, can, cannot = {*done}, [], []
    for run in runs:
        if run.name in begun or known.issuperset(run.after):
            can.append(run)
            known.add(run.name)
        else:
            cannot.append(run)
    return can, cannot


def _behind(state: State, parents: Mapping[str, State]) -> State:
    """The state of a run that has not begun, as those that it starts from leave it."""
    for name, parent in parents.items():
        if parent.kind == "failed" and state.kind != "queued":
            return State("failed", state.result, not_run(name))
        if parent.kind != "finished":
            return State("queued" if state.kind == "queued" else "waiting", state.result, f"for {name}")
    return state


def _of_attempt(run: GridRun, launch: Launch, queue: Queue | None, waiting: State) -> State:
    """What the last attempt to run a run that has not finished came to."""
    result = waiting.result
    if launch.job and queue is not None and (state := _in_slurm(launch, queue, result)) is not None:
        return state
    if launch.exit_code is None:
        if launch.queued and (launch.job or _process_lives(launch)):
            return State("queued", result, _believed(run, launch) if queue is None else "")
        if not launch.queued and _alive(run.folder, launch):
            return State("running", result)
        return waiting  # its process was killed, and who started it as well; or who was submitting it
    if launch.exit_code == EXIT_PREEMPTED:
        return State("stopped", result, launch.reason)
    if launch.exit_code == EXIT_OK and not run.trains:
        return State("finished", result)
    if launch.exit_code == EXIT_OK:
        return State("failed", result, f"it ended well but wrote no finished {RESULT}")
    return State("failed", result, launch.reason or describe_exit(launch.exit_code))


def _believed(run: GridRun, launch: Launch) -> str:
    """What else is to be said of a queued run where Slurm cannot be asked: the folder may be a copy."""
    if not launch.job or launch.host in ("", socket.gethostname()):
        return ""
    return (
        f"so {launch.host} has noted, and Slurm cannot be asked here: if its job {launch.job} is gone, "
        f"remove {run.folder / LAUNCH}"
    )


def _in_slurm(launch: Launch, queue: Queue, result: dict[str, Any]) -> State | None:
    """The state of a run as Slurm tells it; None when its job has ended as the run folder says."""
    job = launch.job
    if queue.get(job) in WAITS or (job in queue and launch.queued):
        return State("queued", result)
    if launch.exit_code is not None:
        return None
    if job in queue:
        return State("running", result)
    if launch.queued:
        reason = f"its Slurm job {job} was cancelled or ended before the run began"
        return State("failed", result, f"{reason}: see submissions/*/{job}_0_log.out")
    return State("failed", result, f"its Slurm job {job} has ended without a word: was it killed?")


def check_folder(run: GridRun, state: State) -> None:
    """Refuse a run whose folder holds another run's work, or what was made of work that is gone.

    Args:
        run: of a grid.
        state: what `inspect` has found in its folder.

    Raises:
        UserError: naming the first difference, what has changed of the run that it began from, or that
            another rule has ended it early.
    """
    if state.kind == "stale":
        raise UserError(f"The run {run.name} in {run.folder} is stale, {state.reason}: {REMEDY}.")
    if state.result.get("config_hash") != run.id:  # the hash spares reading YAML
        check_config(run.folder, run.config)
    check_decided(run.folder, run.config, state.result)


def check_queued(run: GridRun, state: State) -> None:
    """Refuse a run that waits, or has just begun, to be trained by another config than the present one.

    Args:
        run: of a grid.
        state: what `inspect` has found in its folder.

    Raises:
        UserError: naming the first difference.
    """
    begins = state.kind == "running" and state.reason != BY_HAND and not (run.folder / CONFIG).exists()
    if not (begins or state.kind == "queued"):
        return
    difference = differs(run.folder / LAUNCH_CONFIG, run.config)
    if difference is not None:
        raise UserError(
            f"The run {run.name} in {run.folder} is {state.kind} with another config, {difference}: cancel "
            "it first, or put the config back."
        )


def write_config(run: GridRun) -> Path:
    """Write the config of a run into its folder, for a process to be started with; returns its path."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / LAUNCH_CONFIG
    write_atomically(path, dump_to_go_on(run.config), durable=False)
    return path


def mark_anew(run: GridRun) -> None:
    """Let a run be started anew, with new attempts; what is in its folder stays until it has begun."""
    if run.folder.is_dir() and "overwrite" in type(run.config).model_fields:
        (run.folder / LAUNCH).unlink(missing_ok=True)
        order_anew(run.folder)


def _alive(folder: Path, launch: Launch) -> bool:
    """Does an attempt still run? The lock of its folder tells, wherever it runs."""
    held = is_held(folder)
    if held or (held is False and not _has_just_begun(launch)):
        return bool(held)
    return _process_lives(launch)


def _has_just_begun(launch: Launch) -> bool:
    try:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(launch.began)
        return abs(age) < TIME_TO_OPEN  # clocks differ, and are set back
    except (ValueError, TypeError):
        return False


def _process_lives(launch: Launch) -> bool:
    """Is there a process of this number? On another machine there is believed to be."""
    if not launch.host or launch.pid <= 0:  # the file is damaged
        return False
    if launch.host != socket.gethostname():
        return True
    try:
        os.kill(launch.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
