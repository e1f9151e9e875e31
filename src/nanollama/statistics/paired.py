"""What pairs tell, as two runs of one seed that differ in one thing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nanollama.statistics.intervals import TAIL, Interval, finite_numbers, mean_interval

MAX_EXACT = 20
"""So many differences at most have all their sign patterns counted."""
N_SAMPLES = 20_000
MIN_BOOTSTRAP = 8
"""Fewer differences have no bootstrap interval; `tests/statistics` simulates what those of more hold."""
N_RESAMPLES = 9_999


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """The geometric mean of the ratios of pairs with its 95 % interval: Student's, of their logarithms.

    One pair has no interval, nor have pairs of the same ratio.

    Raises:
        ValueError: there are no ratios, or one is not above 0 or not finite.
    """
    finite_numbers(ratios, "the ratios")
    mean, low, high, n_pairs = mean_interval([math.log(ratio) for ratio in ratios])
    return Interval(math.exp(mean), math.exp(low), math.exp(high), n_pairs)


def sign_flip_test(differences: Sequence[float]) -> float:
    """Chance of a sum this large if each difference were as likely to have the other sign; one-sided.

    Exact up to `MAX_EXACT` differences. For more, sign patterns are drawn, always the same ones, and the
    observed one counts among them, so that the test keeps its level (Phipson and Smyth, 2010, Statistical
    Applications in Genetics and Molecular Biology 9, 39).

    Args:
        differences: of pairs; at least one.

    Returns:
        the share of sign patterns whose sum is at least the observed one.

    Raises:
        ValueError: there are no differences, or one is not finite.
    """
    observed = finite_numbers(differences, "the differences")
    slack = 1e-12 * np.abs(observed).sum()  # sums that are equal but for rounding
    if len(observed) <= MAX_EXACT:
        sums = np.zeros(1)
        for difference in observed:
            sums = np.concatenate([sums + difference, sums - difference])
        return float((sums >= observed.sum() - slack).mean())
    rng = np.random.default_rng(0)
    sums = np.zeros(N_SAMPLES)
    for difference in observed:
        sums += rng.choice((difference, -difference), N_SAMPLES)
    return float((1 + (sums >= observed.sum() - slack).sum()) / (1 + N_SAMPLES))


def bootstrap_interval(differences: Sequence[float]) -> Interval:
    """The mean of differences with its 95 % interval by the studentised bootstrap, always the same resamples.

    For skewed differences it holds the truth more often than Student's, which is shorter (Hall, 1988, Annals
    of Statistics 16, 927-953). Bias-corrected percentiles hold it too rarely: .80 to .94 with 8 differences.
    Differences that are all the same have no interval.

    Raises:
        ValueError: there are fewer than `MIN_BOOTSTRAP`, or one is not finite.
    """
    observed = finite_numbers(differences, "the differences")
    n_values, mean = len(observed), float(observed.mean())
    if n_values < MIN_BOOTSTRAP:
        raise ValueError(f"Expected at least {MIN_BOOTSTRAP} differences to draw from, got {n_values}.")
    spread = observed.std(ddof=1)
    if spread <= 1e-12 * np.abs(observed).max():  # rounding, if anything
        return Interval(mean, math.nan, math.nan, n_values)
    drawn = observed[np.random.default_rng(0).integers(n_values, size=(N_RESAMPLES, n_values))]
    reach, spreads = drawn.mean(axis=1) - mean, drawn.std(axis=1, ddof=1)
    # A resample without spread says nothing of the reach: as far as can be, to its side.
    studentised = np.divide(reach, spreads, out=np.copysign(np.inf, reach), where=spreads > 0)
    place = round(TAIL * (N_RESAMPLES + 1))
    low, high = np.sort(studentised)[[place - 1, -place]].tolist()
    return Interval(mean, float(mean - high * spread), float(mean - low * spread), n_values)
