"""What several runs say together: runs that differ in their seed alone, their mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Any, NamedTuple

from nanollama.report.grouping import Setting, group_runs
from nanollama.report.runs import RunRecord

LOW, HIGH = "_low", "_high"
CONFIDENCE = 0.95

# Keys that name a run, and keys that set its dice; runs that agree on all others are of one setting.
_NAMING = ("name", "run_dir", "overwrite")
_SEEDS = ("seed", "training.seed")


class Interval(NamedTuple):
    """A mean and the ends of its 95 % confidence interval; NaN ends where one value allows none."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], is_share: bool = False) -> Interval:
    """The mean of independent values with Student's interval; that of a share ends at 0 and 1.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("The mean of no values is not defined.")
    mean, n_values = fmean(values), len(values)
    if n_values == 1:
        return Interval(mean, math.nan, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n_values - 1)
    reach = student_quantile(n_values - 1) * math.sqrt(variance / n_values)
    low, high = mean - reach, mean + reach
    return Interval(mean, *(within_share(low, high) if is_share else (low, high)))


def within_share(low: float, high: float) -> tuple[float, float]:
    """The ends of an interval of a share: no share is below 0 or above 1."""
    return max(0.0, low), min(1.0, high)


@cache
def student_quantile(n_freedom: int) -> float:
    """The t that a Student variable with `n_freedom` degrees exceeds in size with probability 5 %.

    Bisection of the distribution function, whose closed form for whole degrees of freedom is equations
    26.7.3 and 26.7.4 of Abramowitz and Stegun, "Handbook of Mathematical Functions".
    """
    low, high = 0.0, 16.0  # the largest, for one degree, is 12.7
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_inside(middle, n_freedom) < CONFIDENCE else (low, middle)
    return (low + high) / 2


def _student_inside(t: float, n_freedom: int) -> float:
    """Probability that a Student variable lies between -t and t."""
    angle = math.atan(t / math.sqrt(n_freedom))
    cosine, is_odd = math.cos(angle), n_freedom % 2
    total, term = 0.0, (cosine if is_odd else 1.0)
    for number in range(1 if is_odd else 0, n_freedom - 1, 2):
        total += term
        term *= cosine**2 * (number + 1) / (number + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total


def final_measures(run: RunRecord) -> dict[str, float]:
    """The numbers of the last evaluation; without one, none."""
    row = run.evals[-1] if run.evals else {}
    return {name: value for name, value in row.items() if name != "step" and _is_number(value)}


def headlines(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the measures to compare runs by, in the order they first appear.

    Those reported with an interval, without their refinements: beside ``recall``, ``recall_birth_date`` is
    one. Where nothing has an interval, all of them.
    """
    return headline_names(list(dict.fromkeys(name for run in runs for name in final_measures(run))))


def headline_names(names: Sequence[str]) -> list[str]:
    """Which of these measures `headlines` takes."""
    known = set(names)
    measured = [name for name in names if {name + LOW, name + HIGH} <= known] or names
    return [name for name in measured if not any(name.startswith(f"{other}_") for other in measured)]


def group_by_seed(runs: Sequence[RunRecord]) -> list[tuple[str, Setting[RunRecord]]]:
    """Runs that differ in their seed alone together, named by what tells them from the others."""
    configs = [flatten(run.config) for run in runs]
    values = [{key: config[key] for key in config if key not in _NAMING} for config in configs]
    return [(_name(setting), setting) for setting in group_runs(runs, values, _SEEDS)]


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; lists and empty sections count as values."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _name(setting: Setting[RunRecord]) -> str:
    first, *others = setting.runs
    if others and setting.parts:
        return setting.label
    return str(first.config.get("name", first.name)) if others else first.name


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
