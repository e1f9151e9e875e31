"""What the page of a grid of this study shows beside what every grid has: both matrices through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanollama.launcher.grid.results import GridResults
from nanollama.launcher.grid.sections import curve, draw_means
from nanollama.report.page import Picture, Section

MATRICES = (
    "input_effective_rank",
    "output_effective_rank",
    "input_norm",
    "output_norm",
)


def grid_sections(grid: GridResults) -> Sequence[Section]:
    """The sections; see `nanollama.launcher.grid.outcome`."""
    return [Section("Input and output embeddings", tuple(matrix_pictures(grid)))]


def matrix_pictures(grid: GridResults) -> Iterator[Picture]:
    """How many dimensions each matrix uses, and its size, by step; a line a setting."""
    for name in MATRICES:
        points = [point for setting in grid.settings for point in curve(setting, name)]
        if points:
            yield draw_means(f"matrices_{name}", points, "optimizer steps", name)
