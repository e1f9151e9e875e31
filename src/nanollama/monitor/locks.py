"""Locks of files, which the system takes back when a process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanollama.errors import UserError

logger = logging.getLogger(__name__)

UNKNOWN = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems without locks answer, such as some of clusters."""
N_TRIES, SECONDS_BETWEEN_TRIES = 10, 0.05
"""To lock a folder: who only asks whether it is locked holds it for an instant."""


def take_lock(descriptor: int, path: Path) -> bool:
    """Lock an open file for this process alone; False where another holds it.

    On a file system without locks it counts as taken, which is said: that it works there is worth more than
    that it cannot be started twice.

    Args:
        descriptor: of the file.
        path: what it stands for, to be told.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        logger.warning("%s cannot be locked (%s): start one process alone there.", path, error.strerror)
    return True


@contextmanager
def hold_folder(
    folder: Path, name: str, use: str = "in use", remedy: str = "choose another run_dir"
) -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process ends, however it ends.

    Args:
        folder: of a run.
        name: of the file in it that is locked; made where it is missing, and says who holds it.
        use: what it is held for, to be told to others.
        remedy: what to do about a folder that cannot be held.

    Raises:
        UserError: another process holds it, it cannot be written to, or the file was removed meanwhile.
    """
    path = folder / name
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed below, by `with`
    except OSError as error:
        raise UserError(
            f"The run folder {folder} cannot be written to ({error.strerror}): {remedy}."
        ) from None
    with file:
        if not _take(file.fileno(), folder):
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise UserError(f"The run folder {folder} is {use} by {owner}: wait for its end, or {remedy}.")
        if not _is_at(path, file.fileno()):  # while we waited; the lock of a removed file keeps nobody out
            raise UserError(f"The run folder {folder} was {use} until just now: start again.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _take(lock: int, folder: Path) -> bool:
    for _ in range(N_TRIES):
        if take_lock(lock, folder):
            return True
        time.sleep(SECONDS_BETWEEN_TRIES)
    return False


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
