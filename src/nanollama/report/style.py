"""How figures look, as a context: nothing is set for the rest of the process."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanollama.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers and legible on white and on near-black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":")
SIZE_INCHES = (6.4, 3.6)

INK = "#1b1f24"
_SETTINGS: dict[Any, Any] = {
    "figure.figsize": SIZE_INCHES,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,  # names come from configs: a dollar is a dollar
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "nanollama",  # equal figures give equal files
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save figures inside this context.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("matplotlib", "visu") from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc does not change our figures
        matplotlib.rcParams.update(_SETTINGS)
        yield


def settle(figure: Figure) -> None:
    """Lay a figure out, once: left alone, it would be laid out again in every format, which takes longest."""
    with figure_style():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix: .pdf, .png or .svg."""
    settle(figure)
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix)
    with figure_style():
        figure.savefig(path, metadata=undated, facecolor="white")


def to_inline_svg(figure: Figure, prefix: str) -> str:
    """A figure as an ``<svg>`` element that takes its ink from the page around it.

    Args:
        figure: what to draw.
        prefix: of all ids in it; another one for every figure of a page.
    """
    settle(figure)
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with figure_style():
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # Sized by the page: the viewBox alone keeps the proportions.
    svg = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
