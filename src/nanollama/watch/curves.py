"""From the rows of a run to what a screen can show: means over rows, and the points that matter."""

from __future__ import annotations

import numpy as np


def trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each row and the `window - 1` before it, or of as many as there are.

    Nothing but these rows enters a mean: a spike before them leaves no rounding, a NaN no gap.

    Args:
        values: (n_rows,), perhaps NaN.
        window: in rows, at least 1.
    """
    n_rows = len(values)
    window = min(window, n_rows)
    if window <= 1:
        return values
    # Rows in blocks of a window: what a window holds of two blocks is the end of one and the beginning of the
    # next, so that running sums, which begin anew in each block, need no difference.
    blocks = np.zeros((-(-n_rows // window), window))
    blocks.flat[:n_rows] = values
    sums = blocks.cumsum(axis=1).ravel()[:n_rows]
    ends = blocks[:, ::-1].cumsum(axis=1)[:, ::-1]
    ends[:, 0] = 0.0  # the window is then one whole block, of which the sum is there already
    sums[window - 1 :] += ends.ravel()[: n_rows - window + 1]
    return np.asarray(sums / np.minimum(np.arange(1, n_rows + 1), window))


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
