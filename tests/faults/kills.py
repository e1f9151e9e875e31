"""SIGKILL at any moment: the run is started again, and ends as one that was left alone."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.children import KEYS, Calm, arguments, run


class Kills:
    """At random moments, up to three times a run."""

    def __init__(self, folder: Path) -> None:
        self.calm = Calm(folder)

    def trial(self, rng: random.Random) -> str | None:
        """A run that is killed, some times, then left alone."""
        study = rng.choice(sorted(KEYS))
        folder = self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        for _ in range(rng.randint(1, 3)):
            after = rng.uniform(0, self.calm.seconds[study] * 1.1)
            killed = run(f"apps.{study}.train", arguments(study, folder), self.calm.folder, kill_after=after)
            if killed.code not in (0, -signal.SIGKILL):
                return f"{study}, killed after {after:.3f} s: exit code {killed.code}: {killed.said[-500:]}"
        return finish(self.calm, study, folder)


class Calls:
    """At a call that changes the disk, or opens a file: the process dies there, or the disk is full."""

    def __init__(self, folder: Path) -> None:
        self.calm = Calm(folder)
        self.n_calls = {study: self._count(study) for study in KEYS}

    def _count(self, study: str) -> int:
        """Calls of a calm run."""
        counted, folder = self.calm.folder / "n_calls", self.calm.folder / "counted"
        shutil.rmtree(folder, ignore_errors=True)
        argv = arguments(study, folder)
        ended = run(f"apps.{study}.train", argv, self.calm.folder, before=watch(folder, -1, die, counted))
        assert ended.code == 0, ended.said
        return counted.stat().st_size

    def trial(self, rng: random.Random) -> str | None:
        """The n-th call is the last, or fails."""
        study, is_full = rng.choice(sorted(KEYS)), rng.random() < 0.5
        folder = self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        number = rng.randrange(self.n_calls[study])
        fault = fill_disk if is_full else die
        where = f"{study}, {fault.__name__} at call {number}"
        ended = run(
            f"apps.{study}.train",
            arguments(study, folder),
            self.calm.folder,
            before=watch(folder, number, fault, None),
        )
        if not is_full and ended.code != -signal.SIGKILL:
            return f"{where}: exit code {ended.code}: {ended.said[-500:]}"
        if is_full and "Traceback" in ended.said:
            return f"{where}: exit code {ended.code}: {ended.said[-1500:]}"
        found = finish(self.calm, study, folder)
        return None if found is None else f"{where}: {found}"


def die(path: str) -> None:
    """As by a power cut, but for what the disk was told before."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk(path: str) -> None:
    """The call fails."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


EVENTS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"})


def watch(
    folder: Path, number: int, fault: Callable[[str], None], counted: Path | None
) -> Callable[[], None]:
    """What a child calls first: the ``number``-th of its calls about ``folder`` meets the fault.

    Args:
        counted: grows by a byte a call.
    """

    def begin() -> None:
        seen = 0
        count = None if counted is None else os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in EVENTS or not str(args[0]).startswith(str(folder)):
                return
            if count is not None:
                os.write(count, b".")
            seen += 1
            if seen == number + 1:
                fault(str(args[0]))

        sys.addaudithook(hook)

    return begin


def finish(calm: Calm, study: str, folder: Path) -> str | None:
    """Start the run again; None where it then ends as a calm one."""
    ended = run(f"apps.{study}.train", arguments(study, folder), calm.folder)
    if ended.code != 0:
        return f"{study}, started again: exit code {ended.code}: {ended.said[-500:]}"
    return calm.compare(study, folder)
