"""Figures of the grids of the memory study: rows go in, figures come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanollama.report.figures import plot_curves
from nanollama.report.style import COLOURS, INK, figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

AXIS_LABELS = {
    "people": "people learned about",
    "alpha": "alpha: chance of a fact to be free",
    "width": "d_model",
}
LOGARITHMIC = frozenset({"people"})
ARM_COLOURS = {"in-weight": COLOURS[1], "in-tool": COLOURS[0], "mixed": COLOURS[2]}
MARKERS = "osD^vX"
RECALL_RANGE = (-0.03, 1.03)
BITS_A_PARAMETER = 2.0
"""What weights were seen to hold after a thousand exposures (arXiv 2404.05405)."""


def plot_recall(rows: Sequence[Row], axis: str, y_label: str) -> Figure:
    """Means over seeds along an axis, one line a series, with bands; rows have series, mean, low and high."""
    figure = _plot_means(rows, axis, AXIS_LABELS[axis], y_label, RECALL_RANGE)
    _scale(figure, axis)
    return figure


def plot_training(rows: Sequence[Row]) -> Figure:
    """Means over seeds of recall of what was never shown, through training, with bands; rows as above."""
    return _plot_means(rows, "step", "optimizer steps", "recall of what was never shown", RECALL_RANGE)


def plot_capacity(rows: Sequence[Row], axis: str) -> Figure:
    """Bits stored per parameter along an axis, below the line of what weights were seen to hold."""
    figure = _plot_means(rows, axis, AXIS_LABELS[axis], "bits stored per parameter")
    _scale(figure, axis)
    with figure_style():
        axes = figure.axes[0]
        axes.axhline(BITS_A_PARAMETER, color=INK, linestyle=":", linewidth=1.2)
        axes.annotate(
            "2 bits a parameter", (0.01, BITS_A_PARAMETER), xycoords=("axes fraction", "data"), va="bottom"
        )
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), BITS_A_PARAMETER * 1.15)
    return figure


def plot_params_needed(rows: Sequence[Row], published: Sequence[Row], axis: str) -> Figure:
    """The smallest model that learned, ours with intervals over the published ones.

    Args:
        rows: of `apps.memory.grid_tables.params_needed`.
        published: rows with the axis and, by arm, the parameters needed.
        axis: ``people`` or ``alpha``.
    """
    with figure_style():
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter

        figure = Figure()
        axes = figure.subplots()
        for arm, colour in ARM_COLOURS.items():
            known = [(row[axis], row[arm]) for row in published if row.get(arm) is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, linewidth=1, label=f"{arm}, published")
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
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        handles, names = axes.get_legend_handles_labels()
        if handles:
            figure.legend(handles, names, loc="outside upper left", ncols=2)
    _scale(figure, axis)
    return figure


def _plot_means(
    rows: Sequence[Row], x: str, x_label: str, y_label: str, y_range: tuple[float, float] | None = None
) -> Figure:
    return plot_curves(
        rows,
        x,
        "mean",
        series="series",
        low="low",
        high="high",
        x_label=x_label,
        y_label=y_label,
        y_range=y_range,
    )


def _scale(figure: Figure, axis: str) -> None:
    """People by doublings."""
    if axis not in LOGARITHMIC:
        return
    with figure_style():
        from matplotlib.ticker import NullFormatter

        axes = figure.axes[0]
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
