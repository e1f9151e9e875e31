"""What a command reads from and prints to may be closed, or lose its reader, as in ``... | head``."""

from __future__ import annotations

import errno
import os
import select
import sys

EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE, as shells report it."""


def open_streams() -> None:
    """Where the caller has closed stdin, stdout or stderr (``2>&-``), put an empty one in its place.

    Else Python has None there, which nobody expects, and the next file that is opened takes its number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one, as a rule
        os.set_inheritable(null, null == number)
        setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - while we live


def is_broken_pipe(error: SystemExit) -> bool:
    """Is this what rich and click make of a reader that has gone?"""
    cause = error.__context__
    return isinstance(cause, OSError) and cause.errno == errno.EPIPE


def reader_left() -> bool:
    """Has the reader of our output gone? Then nothing more is written to it."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file: captured by a test or a notebook
        return False
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(events & select.POLLERR for _, events in poll.poll(0)):
        return False
    # What is still buffered would be flushed, and fail, once more when the interpreter ends.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, output)
    os.close(null)
    return True
