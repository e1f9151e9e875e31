"""Equivalence and several tests at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nanollama.statistics import equivalence_test, holm


def test_equivalence_is_two_one_sided_tests_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        differences = rng.normal(rng.normal(0, 0.5), 1.0, rng.integers(2, 12))
        margin = float(rng.uniform(0.1, 2))
        above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        found = equivalence_test(differences.tolist(), margin)
        assert found == pytest.approx(max(above, below))
        low, high = stats.t.interval(
            0.9, len(differences) - 1, loc=differences.mean(), scale=stats.sem(differences)
        )
        assert (found < 0.05) == (-margin < low and high < margin)


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.1, 0.1]])
def test_nothing_tells_how_far_equal_differences_scatter(differences: list[float]) -> None:
    assert math.isnan(equivalence_test(differences, 1.0))


def test_holm_is_the_closed_bonferroni_test() -> None:
    """Adjusted: the largest Bonferroni p of the sets of hypotheses that a hypothesis is in."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = (rng.random(rng.integers(1, 6)) ** 3).round(2).tolist()
        places = range(len(p_values))
        sets = [
            chosen for size in range(1, len(p_values) + 1) for chosen in itertools.combinations(places, size)
        ]
        expected = [
            max(
                min(1.0, len(chosen) * min(p_values[other] for other in chosen))
                for chosen in sets
                if place in chosen
            )
            for place in places
        ]
        assert holm(p_values) == pytest.approx(expected)


def test_nothing_is_nothing() -> None:
    assert holm([]) == []
