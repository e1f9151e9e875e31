"""95 % intervals for shares and means. `tests/statistics` simulates how often each of them holds the truth.

scipy is loaded by the first interval: commands that show none do without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
# As many as a quantile of the beta distribution can be computed for: shares of 1e-150 had no upper end.
MAX_ANSWERS = 1e12
# A sum of shares in float32 that should be 1 may be so much more.
ROUNDING = 1e-4


class Interval(NamedTuple):
    """A share or mean with its 95 % interval.

    Args:
        mean: the estimate.
        low: lower end; like the upper one NaN where there is nothing to tell it from.
        high: upper end.
        n: of how many units it is made: people, runs, pairs.
    """

    mean: float
    low: float
    high: float
    n: int

    def within(self, least: float, most: float) -> Interval:
        """With ends that are no further out than what is possible; unknown ones stay so."""
        low = self.low if math.isnan(self.low) else max(least, self.low)
        return self._replace(low=low, high=self.high if math.isnan(self.high) else min(most, self.high))


def share_interval(n_right: Sequence[int], n_asked: Sequence[int]) -> Interval:
    """The share of right answers where each unit, as a person, may be asked several questions.

    Answers about one unit are alike, so they tell less than as many answers about different ones: the
    interval is the exact one of `independent_number` answers (Korn and Graubard, 1998, Survey Methodology 24,
    193-201).

    Args:
        n_right: right answers of each unit.
        n_asked: questions to each unit, at least one; without units everything is possible.

    Raises:
        ValueError: impossible counts.
    """
    right, asked = np.asarray(n_right, dtype=float), np.asarray(n_asked, dtype=float)
    # Said of what has to be so: no comparison with NaN is true.
    if right.shape != asked.shape or not ((asked >= 1) & (right >= 0) & (right <= asked)).all():
        raise ValueError(
            "Expected as many counts of right answers as of questions, at least one question a unit, and no "
            f"more right answers than questions; got {n_right} of {n_asked}."
        )
    if not len(right):
        return Interval(math.nan, 0.0, 1.0, 0)
    share = float(right.sum() / asked.sum())
    return Interval(share, *exact_ends(share, float(independent_number(right, asked))), len(right))


def independent_number(n_right: np.ndarray, n_asked: np.ndarray) -> np.ndarray:
    """How many independent answers tell as much about the share of right ones.

    That is the number of answers over their design effect: the variance of the share, units being what was
    drawn, over that of independent answers. It is at least 1 and at most what it is when the answers about a
    unit are all alike. Where few answers are wrong, chance decides how many units they fall on; so half a
    unit whose answers are all wrong is added to both variances. Where all answers are right it decides
    alone, and they count as many as there are units.

    Args:
        n_right: (..., n_units) right answers.
        n_asked: (..., n_units) questions, at least one each.

    Returns:
        (...) one number a set of units.
    """
    n_units, n_answers = n_asked.shape[-1], n_asked.sum(axis=-1)
    largest = (n_asked**2).sum(axis=-1) / n_answers
    if n_units == 1:
        return n_answers / largest
    share = n_right.sum(axis=-1) / n_answers
    between = ((n_right - share[..., None] * n_asked) ** 2).sum(axis=-1) * n_units / (n_units - 1)
    independent = n_answers * share * (1 - share)
    design_effect = (between + largest**2 / 2) / (independent + largest / 2)
    return n_answers / np.clip(design_effect, 1.0, largest)


def exact_ends(share: float, n_answers: float) -> tuple[float, float]:
    """Ends of the interval of a share of independent answers.

    Clopper and Pearson, 1934, Biometrika 26, 404-413.

    Args:
        share: from 0 to 1.
        n_answers: above 0, not necessarily whole.
    """
    from scipy.special import betaincinv

    n_right, n_wrong = share * n_answers, (1 - share) * n_answers
    low = float(betaincinv(n_right, n_wrong + 1, TAIL)) if n_right > 0 else 0.0
    high = float(betaincinv(n_right + 1, n_wrong, 1 - TAIL)) if n_wrong > 0 else 1.0
    return min(low, share), max(high, share)  # against rounding


def finite_numbers(values: Sequence[float], what: str) -> np.ndarray:
    """The values as an array, where all are finite and there is at least one.

    Args:
        values: to be looked at.
        what: they are, for the message.

    Raises:
        ValueError: they are not so.
    """
    numbers = np.asarray(values, dtype=float)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"Expected at least one of {what}, and finite numbers alone; got {list(values)}.")
    return numbers


def may_be_share(value: float) -> bool:
    """Does a number lie between 0 and 1, but for rounding?"""
    return -ROUNDING <= value <= 1 + ROUNDING


def mean_interval(values: Sequence[float], is_share: bool = False) -> Interval:
    """The mean of independent values.

    Student's interval; for shares the exact one of as many answers as have the variance of the mean, fewer by
    the square of how much longer Student's tails are (Korn and Graubard), which stays between 0 and 1. One
    value has no interval. Nor have values of which one is not finite, nor those that are all the same, as
    nothing tells how much others would differ; shares that are all the same count as one answer each.

    A few seeds do not know of a rare one that fails: where most shares are close to 1 and a few far below,
    the interval is too narrow.

    Raises:
        ValueError: there are no values, or shares that lie elsewhere.
    """
    if not values:
        raise ValueError("The mean of no values is not defined.")
    if is_share and not all(map(may_be_share, values)):
        raise ValueError(f"Expected shares, from 0 to 1; got {min(values)} to {max(values)}.")
    n_values, mean = len(values), fmean(values)
    if not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, n_values)
    variance = math.fsum((value - mean) ** 2 for value in values) / max(1, n_values - 1) / n_values
    rounding = 1e-12 * max(map(abs, values))
    if max(values) - min(values) <= rounding or variance == 0:  # the second: differences whose squares vanish
        ends = exact_ends(values[0], n_values) if is_share and n_values > 1 else (math.nan, math.nan)
        return Interval(float(values[0]), *ends, n_values)
    quantile = student_quantile(n_values - 1)
    if not is_share:
        reach = quantile * math.sqrt(variance)
        return Interval(mean, mean - reach, mean + reach, n_values)
    n_answers = min(max(mean * (1 - mean) / variance, n_values), MAX_ANSWERS)
    return Interval(mean, *exact_ends(mean, n_answers * (_normal_quantile() / quantile) ** 2), n_values)


def seeds_interval(own: Sequence[Interval], is_share: bool = True) -> Interval:
    """The mean over seeds of a measure that has an interval in each: seeds and questions are both samples.

    The reach to each side is the root of the sum of two squares (Zou and Donner, 2008, Statistics in Medicine
    27, 1693-1702): the reach of `mean_interval`, and the average one of the seeds' own intervals. That is not
    less for many seeds, as all are asked the same questions, and it is all there is where the seeds agree
    exactly. One seed has no interval.

    Args:
        own: of each seed.
        is_share: does it lie between 0 and 1?

    Raises:
        ValueError: there are no seeds.
    """
    between = mean_interval([seed.mean for seed in own], is_share)
    if between.n == 1:
        return between
    mean = between.mean
    below, above = (
        (0.0, 0.0) if len({seed.mean for seed in own}) == 1 else (mean - between.low, between.high - mean)
    )
    low = mean - math.hypot(below, fmean(seed.mean - seed.low for seed in own))
    high = mean + math.hypot(above, fmean(seed.high - seed.mean for seed in own))
    found = Interval(mean, low, high, between.n)
    return found.within(0.0, 1.0) if is_share else found


@cache
def student_quantile(n_freedom: int) -> float:
    """The t that a Student variable with `n_freedom` degrees exceeds in size with probability 5 %."""
    from scipy.special import stdtrit

    return float(stdtrit(n_freedom, 1 - TAIL))


@cache
def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - TAIL))
