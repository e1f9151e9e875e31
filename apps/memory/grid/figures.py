"""Figures of the grids of the memory study: rows go in, figures come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanollama.report.figures import label_decades
from nanollama.report.style import COLOURS, INK, figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

AXIS_LABELS = {
    "people": "people learned about",
    "alpha": "alpha: chance of a fact to be free",
    "width": "d_model",
}
ARM_COLOURS = {"in-weight": COLOURS[1], "in-tool": COLOURS[0], "mixed": COLOURS[2]}
MARKERS = "osD^vX"
BITS_A_PARAMETER = 2.0
"""What weights were seen to hold after a thousand exposures (arXiv 2404.05405)."""


def mark_level(figure: Figure, level: float, words: str) -> None:
    """A dotted line across a figure, with words on it and all of it in sight."""
    with figure_style():
        axes = figure.axes[0]
        axes.axhline(level, color=INK, linestyle=":", linewidth=1.2)
        axes.annotate(words, (0.01, level), xycoords=("axes fraction", "data"), va="bottom")
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), level * 1.15)


def plot_params_needed(rows: Sequence[Row], published: Sequence[Row], axis: str, source: str) -> Figure:
    """The smallest model that learned, ours with intervals over the published ones.

    Args:
        rows: of `apps.memory.grid.tables.params_needed`.
        published: rows with the axis and, by arm, the parameters needed.
        axis: ``people`` or ``alpha``.
        source: of the published ones, in words.
    """
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        for arm, colour in ARM_COLOURS.items():
            known = [(row[axis], row[arm]) for row in published if row.get(arm) is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, linewidth=1, label=f"{arm}, {source}")
        for number, name in enumerate(dict.fromkeys(row["series"] for row in rows)):
            own = [row for row in rows if row["series"] == name and row["parameters"] is not None]
            if not own:
                continue
            reach = [
                [row["parameters"] - (row["low"] or row["parameters"]) for row in own],
                [(row["high"] or row["parameters"]) - row["parameters"] for row in own],
            ]
            places, sizes = [row[axis] for row in own], [row["parameters"] for row in own]
            colour = ARM_COLOURS[own[0]["arm"].partition(",")[0]]
            mark = MARKERS[number % len(MARKERS)]
            axes.errorbar(places, sizes, reach, color=colour, fmt=mark, capsize=3, label=f"{name}, ours")
        axes.set(xlabel=AXIS_LABELS[axis], ylabel="parameters needed", yscale="log")
        label_decades(axes.yaxis)
        if axis == "people":
            axes.set_xscale("log")
            label_decades(axes.xaxis)
        handles, names = axes.get_legend_handles_labels()
        if handles:
            figure.legend(handles, names, loc="outside upper left", ncols=2)
    return figure
