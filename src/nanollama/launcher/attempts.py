"""An attempt to run a run: what is written into the run folder about it, and what it has left there.

Who starts runs adds three files to what training writes: ``launch.yaml``, the config to run; ``launch.json``,
how the last attempt began and ended; ``output.txt``, what all attempts printed. A job is told to stop
perhaps while it is still starting, so this module loads nothing that takes time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from nanollama.errors import EXIT_FAILED, EXIT_USER_ERROR
from nanollama.monitor import checkpoint
from nanollama.monitor.files import read_json, write_atomically
from nanollama.monitor.successor import RESULT, is_ordered_anew
from nanollama.wording import shorten

LAUNCH_CONFIG, LAUNCH, OUTPUT = "launch.yaml", "launch.json", "output.txt"
CHECKPOINTS, STEP_NAME = checkpoint.FOLDER, checkpoint.NAME
TAIL_BYTES = 8192


@dataclass(frozen=True)
class Launch:
    """The last attempt to run a run, ``launch.json``.

    Args:
        n_attempts: how many there have been.
        host: of the process; while the run is queued, of the one that submitted it.
        pid: of the same.
        job: Slurm's number of the job, or nothing.
        began: when, in UTC.
        exit_code: of the process, negative for a signal; None while it runs or waits.
        reason: why it failed, in one line.
        queued: does Slurm hold the run, to start it (again)?
        n_stalled: attempts in a row, up to this one, that were stopped before they could save a step more.
    """

    n_attempts: int = 0
    host: str = ""
    pid: int = 0
    job: str = ""
    began: str = ""
    exit_code: int | None = None
    reason: str = ""
    queued: bool = False
    n_stalled: int = 0


def read_launch(folder: Path) -> Launch | None:
    """The last attempt in a run folder, one of which nothing is known where the file is damaged."""
    path = os.path.join(folder, LAUNCH)  # asked of each of 10,000 runs, for which a Path is slow
    if not os.path.exists(path):
        return None
    values, expected = read_json(path), asdict(Launch(exit_code=0))
    if values.get("exit_code", 0) is None:
        del expected["exit_code"], values["exit_code"]
    fits = all(name in expected and type(value) is type(expected[name]) for name, value in values.items())
    return Launch(**values) if fits else Launch()  # damaged, or written by another version


def write_launch(folder: Path, launch: Launch) -> None:
    """Write ``launch.json``, so that it is complete whenever it is read."""
    write_atomically(folder / LAUNCH, json.dumps(asdict(launch), indent=2) + "\n", durable=False)


def begin_attempt(folder: Path, pid: int, job: str = "") -> Launch:
    """Note that a process has begun to run a run."""
    before = read_launch(folder) or Launch()
    launch = Launch(
        n_attempts=before.n_attempts + 1,
        host=socket.gethostname(),
        pid=pid,
        job=job,
        began=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        n_stalled=before.n_stalled,
    )
    write_launch(folder, launch)
    return launch


def run_arguments(folder: Path) -> list[str]:
    """What the ``main`` of a run is called with."""
    anew = ["overwrite=true"] if is_ordered_anew(folder) else []
    return [str(folder / LAUNCH_CONFIG), *anew]


def was_preempted(folder: Path) -> bool:
    """Does a run folder hold the result of a run that was asked to stop, and is not to be replaced?"""
    return read_json(folder / RESULT).get("status") == "preempted" and not is_ordered_anew(folder)


def saved_step(folder: Path) -> int:
    """The step of the newest checkpoint of a run, 0 when it has none, or only those it is to replace."""
    if is_ordered_anew(folder):
        return 0
    try:
        names = [STEP_NAME.fullmatch(name) for name in os.listdir(folder / CHECKPOINTS)]
    except FileNotFoundError:
        return 0
    return max((int(match[1]) for match in names if match), default=0)


def describe_exit(exit_code: int) -> str:
    """Why a process ended, from its exit code alone."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"
    return f"killed by {name}" + (" (out of memory?)" if exit_code == -signal.SIGKILL else "")


def failure_reason(folder: Path, exit_code: int) -> str:
    """One line that says why an attempt failed: its message, or how it ended and what it printed last."""
    lines = [line.strip() for line in tail(folder / OUTPUT) if line.strip()]
    if exit_code < 0 or not lines:
        return describe_exit(exit_code)
    told = exit_code in (EXIT_FAILED, EXIT_USER_ERROR)
    return shorten(lines[-1] if told else f"{describe_exit(exit_code)} after: {lines[-1]}", 300)


def tail(path: Path) -> Sequence[str]:
    """The last lines of a file, the first of them perhaps cut; none when there is no file."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return ["", *text.splitlines()] if size <= TAIL_BYTES else text.splitlines()
