"""SIGKILL at any moment: the run is started again, and ends as one that was left alone."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.children import KEYS, Calm, arguments, calm_training, run


class Kills:
    """At random moments, up to three times a run."""

    def __init__(self, folder: Path) -> None:
        self.calm = calm_training(folder.parent)

    def trial(self, rng: random.Random) -> str | None:
        """A run that is killed, some times, then left alone."""
        study = rng.choice(sorted(KEYS))
        folder = self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        for _ in range(rng.randint(1, 3)):
            after = rng.uniform(0, self.calm.seconds(study) * 1.1)
            killed = run(f"apps.{study}.train", arguments(study, folder), self.calm.folder, kill_after=after)
            if killed.code not in (0, -signal.SIGKILL):
                return f"{study}, killed after {after:.3f} s: exit code {killed.code}: {killed.said[-500:]}"
        return finish(self.calm, study, folder)


class Calls:
    """At a call that changes the disk, or opens a file: the process dies there, or the call fails.

    Or no file may grow beyond some size: then writes themselves fail.
    """

    def __init__(self, folder: Path) -> None:
        self.calm = calm_training(folder.parent)
        self._n_calls: dict[str, int] = {}

    def _count(self, study: str) -> int:
        """Calls of a calm run, counted when it is first asked for."""
        if study in self._n_calls:
            return self._n_calls[study]
        counted, folder = self.calm.folder / "n_calls", self.calm.folder / "counted"
        shutil.rmtree(folder, ignore_errors=True)
        argv = arguments(study, folder)
        ended = run(f"apps.{study}.train", argv, self.calm.folder, before=watch(folder, -1, die, counted))
        assert ended.code == 0, ended.said
        self._n_calls[study] = counted.stat().st_size
        return self._n_calls[study]

    def trial(self, rng: random.Random) -> str | None:
        """The n-th call is the last, or fails."""
        study = rng.choice(sorted(KEYS))
        folder = self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        before, where = self._fault(study, folder, rng)
        ended = run(f"apps.{study}.train", arguments(study, folder), self.calm.folder, before=before)
        where = f"{study}, {where}: exit code {ended.code}"
        if "killed" in where and ended.code != -signal.SIGKILL:
            return f"{where}: {ended.said[-500:]}"
        if "Traceback" in ended.said:
            return f"{where}: {ended.said[-1500:]}"
        found = finish(self.calm, study, folder)
        return None if found is None else f"{where}: {found}"

    def _fault(self, study: str, folder: Path, rng: random.Random) -> tuple[Callable[[], None], str]:
        """What a child calls first, and what happens to it then."""
        number, kind = rng.randrange(self._count(study)), rng.choice(["killed", "refused", "limited"])
        if kind == "killed":
            return watch(folder, number, die, None), f"killed at call {number}"
        if kind == "refused":
            error = rng.choice([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
            return watch(folder, number, refuse(error), None), f"{os.strerror(error)} at call {number}"
        sizes = [path.stat().st_size for path in self.calm.run(study).rglob("*")]
        n_bytes = rng.randrange(max(sizes))
        return limit(n_bytes), f"files of at most {n_bytes} bytes"


def die(path: str) -> None:
    """As by a power cut, but for what the disk was told before."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> Callable[[str], None]:
    """Calls fail with this error."""

    def fail(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return fail


def limit(n_bytes: int) -> Callable[[], None]:
    """What a child calls first: no file that it writes grows beyond this."""

    def begin() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

    return begin


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

        def call(path: str) -> None:
            nonlocal seen
            if not path.startswith(str(folder)):
                return
            if count is not None:
                os.write(count, b".")
            seen += 1
            if seen == number + 1:
                fault(path)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event in EVENTS:
                call(str(args[0]))

        def fsync(descriptor: int) -> None:
            call(os.readlink(f"/proc/self/fd/{descriptor}"))
            true_fsync(descriptor)

        true_fsync = os.fsync
        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(hook)

    return begin


def finish(calm: Calm, study: str, folder: Path) -> str | None:
    """Start the run again; None where it then ends as a calm one."""
    ended = run(f"apps.{study}.train", arguments(study, folder), calm.folder)
    if ended.code != 0:
        return f"{study}, started again: exit code {ended.code}: {ended.said[-500:]}"
    return calm.compare(study, folder)
