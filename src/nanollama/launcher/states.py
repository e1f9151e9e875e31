"""What became of a run, read from its folder."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nanollama.config import dump_config
from nanollama.errors import EXIT_OK, EXIT_PREEMPTED
from nanollama.launcher.attempts import (
    LAUNCH,
    LAUNCH_CONFIG,
    OUTPUT,
    RESULT,
    Launch,
    describe_exit,
    read_json,
    read_launch,
)
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.slurm.examinations import EXAMINATIONS
from nanollama.launcher.slurm.queue import Queue
from nanollama.monitor.run_folder import check_config, remove_run

Kind = Literal["finished", "running", "failed", "stopped", "queued", "waiting"]
KINDS: tuple[Kind, ...] = ("finished", "running", "failed", "stopped", "queued", "waiting")
"""Stopped: asked to, its state is saved. Queued: Slurm has it. Waiting: to be started, or started again."""

WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""States of Slurm's jobs that are to start, perhaps again."""


@dataclass(frozen=True)
class State:
    """What became of a run.

    Args:
        kind: in a word.
        result: ``result.json``, empty when there is none.
        reason: why it failed.
    """

    kind: Kind
    result: dict[str, Any]
    reason: str = ""


def inspect(run: GridRun, queue: Queue | None = None) -> State:
    """The state of a run.

    Args:
        run: of a grid, or alone.
        queue: what Slurm holds; None: what the run folder says of its jobs is believed.
    """
    result = read_json(run.folder / RESULT)
    if result.get("status") == "finished":
        return State("finished", result)
    launch = read_launch(run.folder)
    if launch is None:
        return State("waiting", result)
    if launch.job and queue is not None and (state := _in_slurm(launch, queue, result)) is not None:
        return state
    if launch.exit_code is None:
        if launch.queued:
            return State("queued", result)
        if _alive(launch):
            return State("running", result)
        return State("waiting", result)  # its process was killed, and who started it as well
    if launch.exit_code == EXIT_PREEMPTED:
        return State("stopped", result)
    if launch.exit_code == EXIT_OK and not run.trains:
        return State("finished", result)
    if launch.exit_code == EXIT_OK:
        return State("failed", result, f"it ended well but wrote no finished {RESULT}")
    return State("failed", result, launch.reason or describe_exit(launch.exit_code))


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
    """Refuse a run whose folder holds another run's work.

    Args:
        run: of a grid.
        state: what `inspect` has found in its folder.

    Raises:
        UserError: naming the first difference.
    """
    if state.result.get("config_hash") != run.id:  # the hash spares reading YAML
        check_config(run.folder, run.config)


def write_config(run: GridRun) -> Path:
    """Write the config of a run into its folder, for a process to be started with; returns its path."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / LAUNCH_CONFIG
    path.write_text(dump_config(run.config), encoding="utf-8")
    return path


def forget(folder: Path) -> None:
    """Remove what runs and their launching have written into a run folder."""
    remove_run(folder)
    for name in (LAUNCH_CONFIG, LAUNCH, OUTPUT, EXAMINATIONS):
        (folder / name).unlink(missing_ok=True)


def _alive(launch: Launch) -> bool:
    """Does the process of an attempt still run? On another machine it is believed to."""
    if launch.host != socket.gethostname():
        return True
    try:
        os.kill(launch.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
