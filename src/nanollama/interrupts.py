"""Ctrl-C while a command is still importing what it needs: one word, as later, and no traceback."""

from __future__ import annotations

import sys
from types import TracebackType


def say_interrupted() -> None:
    """From now on, say of an interrupt that nobody handles what `nanollama.entrypoint.guard` says."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
