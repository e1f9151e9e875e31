"""Figures drawn from tables: rows go in, a figure comes out, nothing is read and nothing is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanollama.measures import is_number
from nanollama.report.interactive import BAND, CURVE
from nanollama.report.style import COLOURS, INK, LINE_STYLES, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

MAX_MARKED_POINTS = 30
MAX_LEGEND_CHARACTERS = 76
"""What fits on one line of a legend."""
LEGEND_MARK_CHARACTERS = 8
"""Room that the mark before each name takes."""
MIN_SPAN = 0.1
"""Of a vertical axis, as a share of the largest value on it."""
SHARE_RANGE = (-0.03, 1.03)
"""Of a vertical axis for shares: all that they can be."""
N_LOOKS = len(COLOURS) * len(LINE_STYLES)
"""Curves that can be told apart; more are drawn as a crowd, from dark to light in their order."""


def plot_curves(
    rows: Rows,
    x: str,
    y: str,
    *,
    low: str | None = None,
    high: str | None = None,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Figure:
    """One line a run; of more than `N_LOOKS`, thin ones in the colours of their order, without bands.

    Args:
        rows: of any number of runs, which the column ``run`` names; a row without `x` or `y` is left out.
        x: column along the horizontal axis.
        y: column along the vertical axis.
        low: column with the lower end of an interval, drawn as a band.
        high: column with the upper end.
        x_label: with the unit.
        y_label: with the unit.
        log_x: a logarithmic horizontal axis.
        log_y: a logarithmic vertical axis; values that are not positive are left out.
        y_range: ends of the vertical axis; by default, those of the data.
    """
    with figure_style():
        figure, axes = _new()
        curves = {
            name: [row for row in points if _drawable(row, x, y, log_y)]
            for name, points in _by_series(rows, "run").items()
        }
        are_few = len(curves) <= N_LOOKS
        for number, (name, points) in enumerate(curves.items()):
            xs, look = [row[x] for row in points], _look(number, len(curves))
            marker = "o" if are_few and len(points) <= MAX_MARKED_POINTS else ""
            ys = [row[y] for row in points]
            axes.plot(xs, ys, **look, marker=marker, markersize=3.5, label=name, gid=CURVE.format(number))
            if low and high and are_few and points and all({low, high} <= row.keys() for row in points):
                lows, highs = ([_number(row[end]) for row in points] for end in (low, high))
                band = axes.fill_between(xs, lows, highs, color=look["color"], alpha=0.2, linewidth=0)
                band.set_gid(BAND.format(number))
        axes.set(xlabel=x_label, ylabel=y_label)
        _log_axes(axes, log_x, log_y)
        _limit(axes, y_range, log_y)
        if not log_x and all(isinstance(row[x], int) for points in curves.values() for row in points):
            _label_whole(axes.xaxis)
        _legend(figure, list(curves), axes.lines)
        return figure


def plot_bars(
    rows: Rows,
    category: str,
    y: str,
    *,
    series: str = "run",
    low: str,
    high: str,
    y_label: str,
) -> Figure:
    """Groups of bars with their intervals and values, one group a category, one colour a series; shares."""
    with figure_style():
        figure, axes = _new()
        categories = list(dict.fromkeys(str(row[category]) for row in rows))
        names = _by_series(rows, series)
        width, groups = 0.8 / max(1, len(names)), []
        for number, (name, points) in enumerate(names.items()):
            offset = (number - (len(names) - 1) / 2) * width
            places = [categories.index(str(row[category])) + offset for row in points]
            heights = [row[y] for row in points]
            reach = [
                [max(0.0, row[y] - row[low]) for row in points],
                [max(0.0, row[high] - row[y]) for row in points],
            ]
            bars = axes.bar(
                places,
                heights,
                width * 0.9,
                yerr=reach,
                error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
                color=COLOURS[number % len(COLOURS)],
                label=name,
            )
            groups.append(bars)
            axes.bar_label(bars, fmt="{:.3f}", padding=3, fontsize=9)
        axes.set_xticks(range(len(categories)), categories)
        axes.set_ylabel(y_label)
        axes.set_ylim(0.0, 1.12)  # room for the values
        axes.grid(visible=False, axis="x")
        _legend(figure, list(names), groups)
    return figure


def _new() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure()  # not pyplot's: no window, no global list of figures
    return figure, figure.subplots()


def _label_whole(axis: Axis) -> None:
    """Ticks at whole numbers: there are no 1.2 layers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _limit(axes: Axes, y_range: tuple[float, float] | None, log_y: bool) -> None:
    """Let the vertical axis span a fair share of the values on it: noise is not to look like a trend."""
    low, high = y_range or axes.get_ylim()
    missing = 0.0 if y_range or log_y else MIN_SPAN * max(abs(low), abs(high)) - (high - low)
    axes.set_ylim(low - max(0.0, missing) / 2, high + max(0.0, missing) / 2)


def _log_axes(axes: Axes, log_x: bool, log_y: bool) -> None:
    if log_x:
        axes.set_xscale("log")
        label_decades(axes.xaxis)
    if log_y:
        axes.set_yscale("log")
        label_decades(axes.yaxis)


def label_decades(axis: Axis) -> None:
    """Let a logarithmic axis show 0.1, 0.2, 0.5, 1 rather than powers of ten; a long one 0.1 and 1."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _by_series(rows: Rows, series: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row[series]), []).append(row)
    return groups


def _drawable(row: Mapping[str, Any], x: str, y: str, log_y: bool) -> bool:
    values = row.get(x), row.get(y)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return False
    return row[y] > 0 or not log_y


def _number(value: Any) -> float:
    """NaN, where a band has a gap, for the null that rows have in its place."""
    return value if is_number(value) else math.nan


def _look(number: int, n_curves: int) -> dict[str, Any]:
    """Colour and line of a curve: told apart also without colour, or a thin one of a crowd in its order."""
    if n_curves > N_LOOKS:
        from matplotlib import colormaps

        return {"color": colormaps["viridis"](0.9 * number / (n_curves - 1)), "linewidth": 0.8, "alpha": 0.7}
    shift = (
        number // len(COLOURS) // 2
    )  # six colours and four lines: after twelve, each colour has other lines
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINE_STYLES[(number + shift) % len(LINE_STYLES)],
    }


def _legend(figure: Figure, names: Sequence[str], handles: Sequence[Any]) -> None:
    if len(names) > N_LOOKS:
        names = f"{names[0]} (first of {len(names)})", f"{names[-1]} (last)"
        handles = handles[0], handles[-1]
    if names:
        n_columns = max(1, MAX_LEGEND_CHARACTERS // (max(map(len, names)) + LEGEND_MARK_CHARACTERS))
        legend = figure.legend(handles, ["?"] * len(names), loc="outside upper left", ncols=n_columns)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(name)  # afterwards: matplotlib leaves out what begins with "_"
