"""From the rows of a run to what a screen can show: means over rows, and the points that matter."""

from __future__ import annotations

import math

import numpy as np


def trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each row and the `window - 1` before it, or of as many as there are.

    Args:
        values: (n_rows,) finite.
        window: in rows, at least 1.
    """
    if window <= 1 or not len(values):
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - window)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))


def within(x: np.ndarray, low: float | None, high: float | None) -> slice:
    """The rows between two places, and one more on each side, so that lines leave the picture.

    Args:
        x: (n_rows,) increasing.
        low: None for the first.
        high: None for the last.
    """
    begin = 0 if low is None else int(np.searchsorted(x, low, "left")) - 1
    end = len(x) if high is None else int(np.searchsorted(x, high, "right")) + 1
    return slice(max(0, begin), max(0, end))


def thin(x: np.ndarray, y: np.ndarray, n_points: int, is_log: bool = False) -> np.ndarray:
    """Which rows to draw: the first, the last, and the lowest and highest of each part of the axis.

    All that a curve reaches is drawn, and all that is drawn is a row.

    Args:
        x: (n_rows,) increasing.
        y: (n_rows,) finite.
        n_points: at most about so many.
        is_log: parts are equal on a logarithmic axis.

    Returns:
        Increasing numbers of rows.
    """
    if len(x) <= n_points:
        return np.arange(len(x))
    n_parts = max(1, n_points // 2 - 1)
    if is_log and x[-1] > 0:
        low = float(x[x > 0][0])
        edges = np.geomspace(low, float(x[-1]), n_parts + 1)
    else:
        edges = np.linspace(float(x[0]), float(x[-1]), n_parts + 1)
    begins = np.unique(np.concatenate([[0], np.searchsorted(x, edges[:-1])]))
    begins = begins[begins < len(x)]
    sizes = np.diff(np.append(begins, len(x)))
    kept = [np.array([0, len(x) - 1])]
    for extreme in (np.minimum, np.maximum):
        reached = np.flatnonzero(y == np.repeat(extreme.reduceat(y, begins), sizes))
        part = np.searchsorted(begins, reached, "right")
        kept.append(reached[np.unique(part, return_index=True)[1]])
    return np.unique(np.concatenate(kept))


def number(value: float) -> float | None:
    """As JSON can say it."""
    return float(value) if math.isfinite(value) else None
