"""What a chart draws: a line a run, or the mean of a group of runs with the band of its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import Any

import numpy as np

from nanollama.measures import HIGH, LOW, finite
from nanollama.report.aggregate import NAMING, SEEDS, interval_of
from nanollama.report.grouping import Setting, group_runs
from nanollama.statistics import Interval
from nanollama.watch.columns import STEP, Columns
from nanollama.watch.curves import thin, trailing_mean, within
from nanollama.watch.run import WatchedRun

SECONDS = "elapsed_seconds"
RUN, SETTING = "run", "setting"
"""Groups: each run alone, or the runs that differ in their seed alone."""
N_POINTS, MAX_POINTS_OF_ALL, MAX_MEANS_OF_ALL = 600, 40_000, 10_000
"""Points of a line, of all lines of a chart, and of all runs of all means of a chart."""


@dataclass(frozen=True)
class View:
    """What is asked of a chart.

    Args:
        measure: the column on the vertical axis.
        x: the column on the horizontal one, `STEP` or `SECONDS`.
        group: `RUN`, `SETTING` or a key of the configs.
        window: rows that a mean is taken over; 1 for none.
        low: where the horizontal axis begins; None for all.
        high: where it ends.
        is_log: is the horizontal axis logarithmic?
    """

    measure: str
    x: str = STEP
    group: str = RUN
    window: int = 1
    low: float | None = None
    high: float | None = None
    is_log: bool = False


def series(runs: Sequence[WatchedRun], view: View) -> list[dict[str, Any]]:
    """The lines of a chart, each with its name, runs and points; a line without points is left out."""
    if view.group == RUN:
        share = max(4, min(N_POINTS, MAX_POINTS_OF_ALL // max(1, len(runs))))
        found = (_of_run(run, view, share) for run in runs)
        return [line for line in found if line is not None]
    settings = groups(runs, view.group)
    share = max(40, min(N_POINTS, MAX_MEANS_OF_ALL // max(1, len(runs))))
    return [line for setting in settings if (line := _of_group(setting, view, share)) is not None]


def groups(runs: Sequence[WatchedRun], group: str) -> list[Setting[WatchedRun]]:
    """Runs with one value of a key together, or those that differ in their seed alone.

    Where all are of grids, settings are those of the grids. Of a key of seeds, each seed is a value.
    """
    known = [run for run in runs if run.config]
    seeds = (*SEEDS, *{run.seed_key for run in known if run.seed_key not in (None, *SEEDS)})
    seeds = tuple(key for key in seeds if key != group)
    if group != SETTING:
        kept = (*seeds, group)
        values = [{key: run.config[key] for key in kept if key in run.config} for run in known]
    elif all(run.planned for run in known):
        values = [dict(run.planned.values) for run in known if run.planned]
    else:
        values = [{key: run.config[key] for key in run.config if key not in NAMING} for run in known]
    return group_runs(known, values, seeds)


@dataclass(frozen=True)
class _Rows:
    """The rows of a run in which a measure is a number: (n_rows,) each, ends of intervals perhaps NaN."""

    steps: np.ndarray
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, rows: Any) -> _Rows:
        return _Rows(*(part[rows] for part in (self.steps, self.x, self.y, self.low, self.high)))


def _rows(run: WatchedRun, view: View) -> _Rows:
    columns = run.metrics if view.measure in run.metrics.names else run.evals
    steps, y = columns.array(STEP), columns.array(view.measure)
    x = steps if view.x == STEP else _seconds(run, columns)
    rows = _Rows(steps, x, y, columns.array(view.measure + LOW), columns.array(view.measure + HIGH))
    drawn = np.isfinite(x) & np.isfinite(y)
    if view.is_log:
        drawn &= x > 0
    if not drawn.all():
        rows = rows.at(drawn)
    if (rows.x[1:] < rows.x[:-1]).any():
        rows = rows.at(np.argsort(rows.x, kind="stable"))
    if view.window <= 1:
        return rows
    return _Rows(
        rows.steps, rows.x, *(trailing_mean(part, view.window) for part in (rows.y, rows.low, rows.high))
    )


def _seconds(run: WatchedRun, columns: Columns) -> np.ndarray:
    """When each step was done; of an evaluation, that of the first row of training at or after it."""
    if SECONDS in columns.names:
        return columns.array(SECONDS)
    steps, seconds = run.metrics.array(STEP), run.metrics.array(SECONDS)
    known = np.isfinite(seconds)
    steps, seconds = steps[known], np.append(seconds[known], np.nan)
    return np.asarray(seconds[np.searchsorted(steps, columns.array(STEP))])


def _of_run(run: WatchedRun, view: View, n_points: int) -> dict[str, Any] | None:
    rows = _rows(run, view)
    rows = rows.at(within(rows.x, view.low, view.high))
    if not len(rows.x):
        return None
    rows = rows.at(thin(rows.x, rows.y, n_points, view.is_log))
    return {
        "name": run.name,
        "runs": [run.number],
        "n": 1,
        **_points(rows.x, rows.y, rows.low, rows.high),
    }


def _of_group(setting: Setting[WatchedRun], view: View, n_points: int) -> dict[str, Any] | None:
    """The mean over the steps that all runs of a group have: it ends where the first of them does."""
    found = setting.read(lambda run: rows if len((rows := _rows(run, view)).x) else None)
    if not found.by_seed:
        return None
    shared = _at_shared_steps(found)
    x, y = (_mean(shared, part) for part in ("x", "y"))
    shown = within(x, view.low, view.high)
    if not len(x[shown]):
        return None
    kept = np.arange(len(x))[shown][thin(x[shown], y[shown], n_points, view.is_log)]
    means = _intervals(shared.read(lambda rows: rows.at(kept)), view.measure)
    return {
        "name": setting.label,
        "runs": [run.number for run in setting.runs],
        "n": found.n_seeds,
        **_points(x[kept], *(np.array([mean[part] for mean in means]) for part in range(3))),
    }


def _at_shared_steps(setting: Setting[_Rows]) -> Setting[_Rows]:
    first, *others = setting.runs
    if all(np.array_equal(first.steps, other.steps) for other in others):
        return setting
    steps = reduce(np.intersect1d, (rows.steps for rows in setting.runs))

    def shared(rows: _Rows) -> _Rows:
        return rows.at(np.intersect1d(rows.steps, steps, return_indices=True)[1])

    return setting.read(shared)


def _mean(setting: Setting[_Rows], part: str) -> np.ndarray:
    """(n_steps,) Over the runs of each seed, then over seeds."""
    seeds = [np.mean([getattr(rows, part) for rows in runs], axis=0) for runs in setting.by_seed.values()]
    return np.asarray(np.mean(seeds, axis=0))


def _intervals(setting: Setting[_Rows], name: str) -> list[Interval]:
    """The mean over seeds at each step with its interval, as reports have it; of one run, its own."""
    means, lows, highs = (_by_seed(setting, part) for part in ("y", "low", "high"))
    has_own = np.isfinite(lows + highs).all(axis=0).tolist()
    found = []
    for place, (mean, low, high) in enumerate(
        zip(*(part.T.tolist() for part in (means, lows, highs)), strict=True)
    ):
        if has_own[place] and len(setting.runs) == 1:
            found.append(Interval(mean[0], low[0], high[0], 1))
        elif has_own[place]:
            found.append(interval_of(name, mean, low, high))
        else:
            found.append(interval_of(name, mean))
    return found


def _by_seed(setting: Setting[_Rows], part: str) -> np.ndarray:
    """(n_seeds, n_steps) The mean over the runs of each seed, without the rounding of sums."""
    return np.array(
        [
            getattr(runs[0], part)
            if len(runs) == 1
            else [
                fmean(values) for values in zip(*(getattr(rows, part).tolist() for rows in runs), strict=True)
            ]
            for runs in setting.by_seed.values()
        ]
    )


def _points(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    has_band = bool(np.isfinite(low).any() and np.isfinite(high).any())
    ends = {"low": finite(low.tolist()), "high": finite(high.tolist())} if has_band else {}
    return {"x": x.tolist(), "y": y.tolist(), **ends}
