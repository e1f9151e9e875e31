"""What became of a run, read from its folder.

Training writes ``result.json``. Who starts runs adds three files: ``launch.yaml``, the config to run;
``launch.json``, how the last attempt began and ended; ``output.txt``, what all attempts printed.
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
from typing import Any, Literal

from nanollama.config import dump_config
from nanollama.errors import EXIT_FAILED, EXIT_OK, EXIT_PREEMPTED, EXIT_USER_ERROR
from nanollama.launcher.grid import GridRun
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.monitor.run_folder import METRICS, RESULT, check_config, remove_run
from nanollama.wording import shorten

LAUNCH_CONFIG, LAUNCH, OUTPUT = "launch.yaml", "launch.json", "output.txt"
TAIL_BYTES = 8192

Kind = Literal["finished", "running", "failed", "stopped", "queued", "waiting"]
KINDS: tuple[Kind, ...] = ("finished", "running", "failed", "stopped", "queued", "waiting")
"""Stopped: asked to, its state is saved. Queued: Slurm has it. Waiting: to be started, or started again."""


@dataclass(frozen=True)
class Launch:
    """The last attempt to run a run, ``launch.json``.

    Args:
        n_attempts: how many there have been.
        host: of the process.
        pid: of the process.
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


@dataclass(frozen=True)
class State:
    """What became of a run.

    Args:
        kind: in a word.
        launch: its last attempt; None when there was none.
        result: ``result.json``, empty when there is none.
        reason: why it failed.
    """

    kind: Kind
    launch: Launch | None
    result: dict[str, Any]
    reason: str = ""


def inspect(run: GridRun) -> State:
    """The state of a run."""
    result = _read_json(run.folder / RESULT)
    launch = read_launch(run.folder)
    if result.get("status") == "finished":
        return State("finished", launch, result)
    if launch is None:
        return State("waiting", None, result)
    if launch.exit_code is None:
        if launch.queued:
            return State("queued", launch, result)
        if _alive(launch):
            return State("running", launch, result)
        return State("waiting", launch, result)  # its process was killed, and who started it as well
    if launch.exit_code == EXIT_PREEMPTED:
        return State("stopped", launch, result)
    if launch.exit_code == EXIT_OK:
        return State("failed", launch, result, f"it ended well but wrote no finished {RESULT}")
    return State("failed", launch, result, launch.reason or describe_exit(launch.exit_code))


def check_folder(run: GridRun) -> None:
    """Refuse a run whose folder holds another run's work.

    Raises:
        UserError: naming the first difference.
    """
    if _read_json(run.folder / RESULT).get("config_hash") != run.id:  # the hash spares reading YAML
        check_config(run.folder, run.config)


def read_launch(folder: Path) -> Launch | None:
    """The last attempt in a run folder."""
    try:
        return Launch(**_read_json(folder / LAUNCH)) if (folder / LAUNCH).exists() else None
    except TypeError:  # written by another version
        return None


def write_launch(folder: Path, launch: Launch) -> None:
    """Write ``launch.json``, so that it is complete whenever it is read."""
    temporary = folder / f".{LAUNCH}.tmp"
    temporary.write_text(json.dumps(asdict(launch), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / LAUNCH)


def write_config(run: GridRun) -> Path:
    """Write the config of a run into its folder, for a process to be started with; returns its path."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / LAUNCH_CONFIG
    path.write_text(dump_config(run.config), encoding="utf-8")
    return path


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


def is_finished(folder: Path) -> bool:
    """Does a run folder hold the result of a run that came to its end?"""
    return _read_json(folder / RESULT).get("status") == "finished"


def was_preempted(folder: Path) -> bool:
    """Does a run folder hold the result of a run that was asked to stop?"""
    return _read_json(folder / RESULT).get("status") == "preempted"


def saved_step(folder: Path) -> int:
    """The step of the newest checkpoint of a run, 0 when there is none."""
    return max(Checkpointer(folder / checkpoint.FOLDER).steps(), default=0)


def forget(folder: Path) -> None:
    """Remove what runs and their launching have written into a run folder."""
    remove_run(folder)
    for name in (LAUNCH_CONFIG, LAUNCH, OUTPUT):
        (folder / name).unlink(missing_ok=True)


def last_row(folder: Path) -> dict[str, Any]:
    """The last row of metrics, read from the end of the file; empty when there is none."""
    for line in reversed(tail(folder / METRICS)[1:]):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            return row
    return {}


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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


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
