"""Pairs: Student's interval of log ratios, sign flips, the studentised bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nanollama.statistics import (
    bootstrap_interval,
    equivalence_test,
    holm,
    ratio_interval,
    sign_flip_test,
)


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
    rng = np.random.default_rng(0)
    for _ in range(200):
        differences = rng.integers(-4, 9, rng.integers(2, 9)) / 10  # ties, but for rounding
        other = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", alternative="greater", n_resamples=512
        )
        assert sign_flip_test(differences.tolist()) == pytest.approx(other.pvalue)


@pytest.mark.parametrize("n_pairs", [20, 21, 60])
def test_sign_flips_of_many_pairs_are_drawn_and_agree_with_the_normal_law(n_pairs: int) -> None:
    differences = np.random.default_rng(n_pairs).normal(0.2, 1.0, n_pairs)
    expected = stats.norm.sf(differences.sum() / np.sqrt((differences**2).sum()))
    assert sign_flip_test(differences.tolist()) == pytest.approx(expected, abs=0.01)
    assert sign_flip_test(differences.tolist()) == sign_flip_test(differences.tolist())


def test_no_drawn_chance_is_zero() -> None:
    assert sign_flip_test([1.0] * 200) == pytest.approx(1 / 20_001)


def test_the_bootstrap_is_studentised() -> None:
    """Against a loop over the same resamples, written from the definition."""
    rng = np.random.default_rng(1)
    for case in range(6):  # each of them 10,000 means
        values = rng.exponential(size=12) if case % 2 else rng.integers(0, 2, 12).astype(float)
        if values.std() == 0:
            continue
        drawn = values[np.random.default_rng(0).integers(12, size=(9_999, 12))]
        ratios = []
        for sample in drawn:
            reach, spread = sample.mean() - values.mean(), sample.std(ddof=1)
            ratios.append(reach / spread if spread else math.copysign(math.inf, reach))
        ratios.sort()
        found = bootstrap_interval(values.tolist())
        assert found.low == pytest.approx(values.mean() - ratios[-250] * values.std(ddof=1))
        assert found.high == pytest.approx(values.mean() - ratios[249] * values.std(ddof=1))
        assert (found.mean, found.n) == (pytest.approx(values.mean()), 12)


def test_too_few_or_equal_differences_have_no_bootstrap() -> None:
    with pytest.raises(ValueError, match="at least 8 differences to draw from, got 7"):
        bootstrap_interval([1.0] * 7)
    assert math.isnan(bootstrap_interval([1.0] * 8).low)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n_values", [1, 3, 12, 24])  # exact, drawn, enough for a bootstrap
def test_pairs_of_which_one_is_no_number_are_refused(wrong: float, n_values: int) -> None:
    for place in {0, n_values - 1}:
        values = [0.1 + index for index in range(n_values)]
        values[place] = wrong
        for tell in (
            sign_flip_test,
            bootstrap_interval,
            ratio_interval,
            lambda differences: equivalence_test(differences, 0.5),
        ):
            with pytest.raises(ValueError, match=r"at least one of the \w+, and finite numbers alone"):
                tell(values)


def test_no_pairs_tell_nothing() -> None:
    for tell in (sign_flip_test, ratio_interval, lambda differences: equivalence_test(differences, 0.5)):
        with pytest.raises(ValueError, match=r"Expected at least one of the \w+, .*; got \[\]"):
            tell([])


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_is_above_zero(margin: float) -> None:
    with pytest.raises(ValueError, match="Expected a margin above 0"):
        equivalence_test([0.1, 0.2], margin)


@pytest.mark.parametrize("p_values", [[math.nan, 0.01], [0.01, math.nan], [-0.1], [1.5]])
def test_what_is_no_p_value_is_not_adjusted(p_values: list[float]) -> None:
    with pytest.raises(ValueError, match="Expected p values from 0 to 1, and 1 for a test"):
        holm(p_values)
