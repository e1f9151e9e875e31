"""Pairs: Student's interval of log ratios, and the exact test of all sign flips."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nanollama.statistics import ratio_interval, sign_flip_test


def test_the_interval_of_ratios_is_students_of_their_logarithms() -> None:
    ratios = [20.0, 15.0, 15.0, 20.0, 2.5]
    logs = np.log(ratios)
    low, high = stats.t.interval(0.95, 4, loc=logs.mean(), scale=stats.sem(logs))
    found = ratio_interval(ratios)
    assert found == pytest.approx((stats.gmean(ratios), math.exp(low), math.exp(high), 5))


@pytest.mark.parametrize("ratios", [[3.0], [3.0, 3.0]])
def test_ratios_that_are_all_the_same_have_no_interval(ratios: list[float]) -> None:
    mean, low, high, n_pairs = ratio_interval(ratios)
    assert (mean, n_pairs) == (pytest.approx(3.0), len(ratios)) and math.isnan(low) and math.isnan(high)


def test_sign_flips_are_counted_exactly() -> None:
    assert sign_flip_test([1.0, -1.0]) == 0.75
    assert sign_flip_test([3.0, 1.0, -2.0]) == pytest.approx(3 / 8)
    assert sign_flip_test([0.1] * 5) == 1 / 32
    assert sign_flip_test([2.0]) == 0.5


def test_sign_flips_are_those_of_scipy() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1.0, 9)
    other = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", alternative="greater", n_resamples=512
    )
    assert sign_flip_test(differences.tolist()) == pytest.approx(other.pvalue)
