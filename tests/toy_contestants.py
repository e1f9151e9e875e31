"""Contestants for tests of benchmarks, in a module that their processes load at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.turns import Step


def noted(folder: Path, name: str, seconds: float = 0.0) -> Step:
    """Steps that note who takes which; nobody is there who has no part in it."""
    with open(folder / "pids", "a+") as file:
        file.seek(0)
        alive = [line for line in file if Path(f"/proc/{line.strip()}").exists()]
        assert len(alive) <= 1, "two others are there"
        file.write(f"{os.getpid()}\n")

    def step(number: int) -> float:
        with open(folder / "steps", "a") as file:
            file.write(f"{name}{number} ")
        time.sleep(seconds)
        return 3.0

    return step


def failing(how: str) -> Step:
    """A contestant that comes to grief in its first step."""

    def step(number: int) -> float:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no such step")

    return step


def waiting(folder: Path) -> Step:
    """A contestant whose command never ends."""

    def step(number: int) -> float:
        process = subprocess.Popen(["sleep", "600"])
        (folder / "pid").write_text(str(process.pid))
        return float(process.wait())

    return step
