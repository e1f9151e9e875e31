"""Failures of the surroundings of a run, which a traceback would only hide: each is said in a sentence.

Told by their names and words, since torch, which may not be there yet, has no types for most of them.
"""

from __future__ import annotations

import re

AGAIN = "what was saved is there, and the same command goes on from it"
STARTER_GONE = "The process that starts runs has ended"
"""How `nanollama.launcher.local.pool` begins what it says of it."""
_CLOSED = re.compile(r"Connection (?:closed|reset) by peer|remote process exited", re.IGNORECASE)
_SILENT = re.compile(
    r"Timed out waiting (\d+)ms|Timed out waiting|collective operation timeout", re.IGNORECASE
)


def explain(error: Exception) -> str | None:
    """The sentence for too little memory or another process that is gone; None for anything else."""
    return _of_memory(error) or _of_processes(error)


def _of_memory(error: Exception) -> str | None:
    names = {kind.__name__ for kind in type(error).__mro__}
    if not {"MemoryError", "OutOfMemoryError"} & names and "can't allocate memory" not in str(error):
        return None
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
    return (
        f"Out of memory{f', when {asked[1]} were asked for' if asked else ''}: let fewer runs share the "
        "machine, cut steps into more parts (training.n_accumulation), examine fewer rows at once "
        "(batch_size), or take a smaller model; what was saved is there."
    )


def _of_processes(error: Exception) -> str | None:
    """Of those that torchrun has started together, and of the one that starts the runs of a grid."""
    if not isinstance(error, RuntimeError):
        return None
    if str(error).startswith(STARTER_GONE):
        return str(error)
    if _CLOSED.search(str(error)):
        return f"Another process of this run has ended: look for what it said; {AGAIN}."
    if silent := _SILENT.search(str(error)):
        after = f" for {int(silent[1]) / 1000:,.0f} seconds" if silent[1] else ""
        return f"Another process of this run has not answered{after}: look whether it still works; {AGAIN}."
    return None
