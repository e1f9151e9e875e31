"""What this study adds to the page of a grid; see `nanollama.launcher.grid.outcome`."""

from __future__ import annotations

from collections.abc import Sequence

from apps.gssm.recall_sections import recall_sections
from nanollama.launcher.grid.results import GridResults
from nanollama.report.page import Section


def grid_sections(grid: GridResults) -> Sequence[Section]:
    """The sections of what the grid's runs have learned."""
    return recall_sections(grid)
