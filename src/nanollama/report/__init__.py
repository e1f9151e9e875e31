"""Reports of runs: ``nanollama report RUN [RUN ...] [--output FILE.html] [--figures DIR]``.

Rows go in; tables, figures and one self-contained page come out. The parts are for studies to use in reports
of their own: `nanollama.report.tables`, `.figures`, `.sections`, `.page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

OUTPUT = "report.html"
OUTPUT_OF_SEVERAL = "comparison.html"  # the report.html beside the runs of a grid is the grid's own


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    from nanollama.entrypoint import guard
    from nanollama.report.command import run

    return guard(lambda: run(argv))


def default_output(folders: Sequence[Path]) -> Path:
    """Where a report goes: into the folder of its only run, or beside the folders of several."""
    if len(folders) == 1:
        return folders[0] / OUTPUT
    parents = {folder.parent for folder in folders}
    return (parents.pop() if len(parents) == 1 else Path()) / OUTPUT_OF_SEVERAL
