"""What the page of a grid of this study has beside what every grid has: its scope, and both matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanollama.launcher.grid.results import GridResults, final
from nanollama.launcher.grid.sections import curve, draw_means
from nanollama.report.page import Picture, Section, Words

MATRICES = (
    "input_effective_rank",
    "output_effective_rank",
    "input_norm",
    "output_norm",
)


def grid_sections(grid: GridResults) -> Sequence[Section]:
    """The sections; see `nanollama.launcher.grid.outcome`."""
    return [
        Section("What this shows, and what it does not", tuple(scope(grid))),
        Section("Input and output embeddings", tuple(matrix_pictures(grid))),
    ]


def scope(grid: GridResults) -> Iterator[Words]:
    """How much the models have learned, what a verdict on equality means, and of what nothing is said."""
    ends = [end.mean for setting in grid.settings if (end := final(setting, "learned_nats")) is not None]
    if not ends:
        return
    yield Words(
        f"Settings end {min(ends):.2f} to {max(ends):.2f} nats below the frequencies of tokens, on the "
        "same held-out text. That two of them end alike means: no difference as large as the margin, at a "
        "level of 5 %; a smaller one may be there. Where such a claim is missed, an interval on one side of "
        "0 tells of a difference, an interval around 0 of too few seeds."
    )
    yield Words("Nothing is said of larger models, of longer training, nor of other text.")


def matrix_pictures(grid: GridResults) -> Iterator[Picture]:
    """How many dimensions each matrix uses, and its size, by step; a line a setting."""
    for name in MATRICES:
        points = [point for setting in grid.settings for point in curve(setting, name)]
        if points:
            yield draw_means(f"matrices_{name}", points, "optimizer steps", name)
