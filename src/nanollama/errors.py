"""Errors that are the user's to mend. They carry one clear message and are shown without a traceback."""

from __future__ import annotations

import errno

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75

REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "allow larger files (`ulimit -f`)",
    errno.EIO: "look after this disk or its mount",
    errno.ESTALE: "look after this disk or its mount",
}
"""What helps where a disk does not do what it is asked, by the number of its error."""


class UserError(Exception):
    """Wrong input: the message says what is wrong, where, what was expected and what to do. Exit code 2."""


class ConfigError(UserError):
    """A config that does not validate: one line a problem, all problems of the config at once."""


class MissingExtraError(UserError):
    """An optional package is needed: the message names the extra to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"The package '{package}' is not installed: run `pip install 'nanollama[{extra}]'`.")


class Preempted(Exception):
    """The run was asked to stop, its state is saved, the same command goes on. Exit code 75."""
