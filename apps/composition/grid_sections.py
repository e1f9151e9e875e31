"""What the page of a grid of this study shows beside what every grid has: accuracy by length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nanollama.launcher.grid.results import GridResults, final
from nanollama.launcher.grid.sections import draw_means
from nanollama.report.page import Picture, Section

BY_LENGTH = re.compile(r"test/accuracy/length_(\d+)")


def grid_sections(grid: GridResults) -> Sequence[Section]:
    """The sections; see `nanollama.launcher.grid.outcome`."""
    return [Section("By length", tuple(length_pictures(grid)))]


def length_pictures(grid: GridResults) -> Iterator[Picture]:
    """Accuracy by length after the last step, a line a setting."""
    points = [
        (setting.label, int(match[1]), found)
        for setting in grid.settings
        for name in setting.runs[0].row
        if (match := BY_LENGTH.fullmatch(name)) and (found := final(setting, name))
    ]
    if points:
        yield draw_means("accuracy_by_length", points, "inputs of a sequence", "test_accuracy")
