"""Locks of files, which the system takes back when a process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
from pathlib import Path

logger = logging.getLogger(__name__)

UNKNOWN = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems without locks answer, such as some of clusters."""


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
