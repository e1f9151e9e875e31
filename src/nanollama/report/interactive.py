"""What makes a figure answer to the pointer without a script: values as titles, curves that CSS can hide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from nanollama.measures import show_number
from nanollama.report.style import to_inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

CURVE, BAND = "curve{}", "curve{}-band"
"""Ids of the n-th curve of a figure and of its band, see `nanollama.report.figures.plot_curves`."""
MAX_TITLES = 1_500
"""Points of a figure that tell their values; of more, evenly spaced ones do."""
PATTERNS = {
    "-": "{0}",
    "--": "repeating-linear-gradient(90deg, {0} 0 6px, transparent 6px 9px)",
    "-.": "repeating-linear-gradient(90deg, {0} 0 7px, transparent 0 9px, {0} 0 11px, transparent 0 13px)",
    ":": "repeating-linear-gradient(90deg, {0} 0 2px, transparent 2px 5px)",
}


@dataclass(frozen=True)
class Curve:
    """A curve of a figure, for its legend on a page.

    Args:
        index: by which CSS knows it.
        name: what it is called.
        background: as CSS says its colour and pattern.
    """

    index: int
    name: str
    background: str


def curves_of(figure: Figure) -> list[Curve]:
    """The curves of a figure that can be hidden; none where there is but one."""
    from matplotlib.colors import to_hex

    found = [
        Curve(
            index, str(line.get_label()), PATTERNS[str(line.get_linestyle())].format(to_hex(line.get_color()))
        )
        for _, index, line in _lines(figure)
    ]
    return found if len(found) > 1 else []


def to_page_svg(figure: Figure, prefix: str) -> str:
    """As `to_inline_svg`, with values to hover; a legend stands beside it where there are `curves_of` it."""
    legends = list(figure.legends)
    if curves_of(figure):
        figure.legends.clear()  # one that is not drawn would still take its room
    svg = to_inline_svg(figure, prefix)
    titles = "".join(_titles(figure))  # where the points lie without the legend
    figure.legends[:] = legends
    return f"{svg[: svg.rindex('</svg>')]}{titles}</svg>"


def _lines(figure: Figure) -> Iterator[tuple[Axes, int, Line2D]]:
    for axes in figure.axes:
        for line in axes.lines:
            prefix, _, number = str(line.get_gid() or "").partition("curve")
            if not prefix and number.isdecimal():
                yield axes, int(number), line


def _titles(figure: Figure) -> Iterator[str]:
    """A transparent circle with a title on each point, in the coordinates of the figure as it was drawn."""
    lines = list(_lines(figure))
    width, height = (72 * inches for inches in figure.get_size_inches())
    for axes, index, line in lines:
        points = np.asarray(line.get_xydata(), dtype=float)
        every = max(1, math.ceil(len(points) * len(lines) / MAX_TITLES))
        to_share = axes.transData + figure.transFigure.inverted()
        circles = []
        for x, y in points[::-1][::every]:  # the last value is always told
            across, up = to_share.transform((x, y))
            said = Markup("{}: {} at {}").format(line.get_label(), show_number(y), show_number(_plain(x)))
            place = f'cx="{across * width:.1f}" cy="{(1 - up) * height:.1f}"'
            circles.append(f'<circle {place} r="5"><title>{said}</title></circle>')
        yield f'<g class="told curve-{index}">{"".join(circles)}</g>'


def _plain(x: float) -> float:
    return int(x) if float(x).is_integer() else float(x)
