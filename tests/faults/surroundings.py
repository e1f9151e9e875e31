"""Surroundings that a run does not choose: it ends as a calm one."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.children import KEYS, arguments, calm_training, run
from tests.faults.kills import EVENTS


class Surroundings:
    """A clock that jumps, a slow disk, no locks, a folder of checkpoints that is a link."""

    def __init__(self, folder: Path) -> None:
        self.calm = calm_training(folder.parent)

    def trial(self, rng: random.Random) -> str | None:
        """One run in one of them."""
        study, change = rng.choice(sorted(KEYS)), rng.choice([set_clock_back, slow_down, unlock, link])
        folder = self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.calm.folder / "elsewhere", ignore_errors=True)
        argv = arguments(study, folder)
        ended = run(f"apps.{study}.train", argv, self.calm.folder, before=change(folder, rng))
        if ended.code != 0:
            return f"{study}, {change.__name__}: exit code {ended.code}: {ended.said[-1500:]}"
        if change is unlock and "cannot be locked" not in ended.said:
            return f"{study}, {change.__name__}: nothing is said of it"
        found = self.calm.compare(study, folder)
        return None if found is None else f"{change.__name__}: {found}"


def set_clock_back(folder: Path, rng: random.Random) -> Callable[[], None]:
    """By an hour, after some looks at it."""
    n_looks = rng.randrange(50)

    def begin() -> None:
        true_time, looks = time.time, iter(range(10**9))
        time.time = lambda: true_time() - (3600 if next(looks) >= n_looks else 0)

    return begin


def slow_down(folder: Path, rng: random.Random) -> Callable[[], None]:
    """Calls about the run's files take up to 20 ms."""
    delays = random.Random(rng.random())

    def begin() -> None:
        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event in EVENTS and str(args[0]).startswith(str(folder)):
                time.sleep(delays.uniform(0, 0.02))

        sys.addaudithook(hook)

    return begin


def unlock(folder: Path, rng: random.Random) -> Callable[[], None]:
    """As on some network file systems."""
    number = rng.choice([errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    def begin() -> None:
        fcntl.flock = refuse  # type: ignore[assignment]

    return begin


def link(folder: Path, rng: random.Random) -> Callable[[], None]:
    """Checkpoints lie on another disk."""

    def begin() -> None:
        (folder.parent / "elsewhere").mkdir()
        folder.mkdir()
        (folder / "checkpoints").symlink_to(folder.parent / "elsewhere")

    return begin
