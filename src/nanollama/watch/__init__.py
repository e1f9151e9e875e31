"""``nanollama watch [RUN|GRID|FOLDER ...]``: a page on this machine that follows runs while they go.

Rows are read as they come (`.columns`), runs and grids are looked at (`.run`, `.grid`, `.watched`), lines are
thinned to what a screen shows (`.curves`, `.series`) and served to this machine alone (`.server`). Nothing is
written anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    from nanollama.entrypoint import guard
    from nanollama.watch.command import run

    return guard(lambda: run(argv))
