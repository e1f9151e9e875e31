"""What Slurm says about its jobs, and what it is told to do with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

TIMEOUT_SECONDS = 60
DEFAULT_MAX_ARRAY_SIZE = 1001

Queue = Mapping[str, str]
"""The state of each job of this user, such as ``PENDING``, by its number, which is ``12_3`` in an array."""


def read_queue() -> Queue | None:
    """The jobs that Slurm holds; None when it cannot be asked."""
    if shutil.which("squeue") is None:
        return None
    said = _ask("squeue", "--me", "--noheader", "--array", "--format=%i %T")
    if said is None:
        return None
    return dict(line.split(maxsplit=1) for line in said.splitlines() if " " in line)


def max_array_size() -> int:
    """The largest number of tasks that Slurm takes in one array."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "", re.MULTILINE)
    return max(int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE, 1)


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs."""
    if jobs:
        _ask("scancel", *jobs)


def _ask(*command: str) -> str | None:
    """What a command of Slurm prints; None when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
