"""Intervals of shares and means: published values, other implementations, limiting cases, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from nanollama.statistics import (
    Interval,
    exact_ends,
    independent_number,
    mean_interval,
    seeds_interval,
    share_interval,
    student_quantile,
)

UNITS = st.lists(st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1)


@pytest.mark.parametrize(
    ("n_successes", "n_trials", "low", "high"),
    # Table I of Newcombe (1998), Statistics in Medicine 17, 857-872, method 5.
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_published_values(n_successes: int, n_trials: int, low: float, high: float) -> None:
    assert exact_ends(n_successes / n_trials, n_trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_one_question_a_unit_is_scipys_exact_interval(counts: tuple[int, int]) -> None:
    n_right, n_units = counts
    found = share_interval([1] * n_right + [0] * (n_units - n_right), [1] * n_units)
    other = stats.binomtest(n_right, n_units).proportion_ci(0.95, method="exact")
    assert found == pytest.approx((n_right / n_units, other.low, other.high, n_units), abs=1e-9)


@given(UNITS)
def test_a_share_lies_in_its_interval_which_is_never_that_of_more_answers(
    units: list[tuple[int, int]],
) -> None:
    n_right, n_asked = zip(*units, strict=True)
    found, n_answers = share_interval(n_right, n_asked), sum(n_asked)
    low, high = exact_ends(found.mean, n_answers)
    assert 0 <= found.low <= low + 1e-12 and high - 1e-12 <= found.high <= 1
    assert found.low <= found.mean <= found.high and found.n == len(units)
    smallest = n_answers**2 / sum(n * n for n in n_asked)
    number = float(independent_number(np.array(n_right, float), np.array(n_asked, float)))
    assert smallest - 1e-9 <= number <= n_answers + 1e-9


def test_a_number_of_independent_answers_by_hand() -> None:
    """Variances of right answers: 3 between people (1 + 1, by 3/2), 3 if independent; 8 and 2 added."""
    assert independent_number(np.array([3.0, 1.0, 2.0]), np.full(3, 4.0)) == pytest.approx(
        12 / ((3 + 8) / (3 + 2))
    )


@pytest.mark.parametrize("n_right", [0, 4])
def test_units_that_are_all_right_or_all_wrong_count_once_each(n_right: int) -> None:
    found = share_interval([n_right] * 20, [4] * 20)
    assert found[1:3] == pytest.approx(exact_ends(n_right / 4, 20))


def test_answers_about_one_person_alone_count_once() -> None:
    assert share_interval([3], [4])[1:3] == pytest.approx(exact_ends(0.75, 1))


def test_the_interval_of_new_names_is_that_of_people() -> None:
    """400 people, four questions each; the standard error by person is .0148, of 1,600 answers .0086."""
    n_right = np.repeat([0, 1, 2, 3, 4], [28, 13, 22, 26, 311])
    share, low, high, n = share_interval(n_right.tolist(), [4] * 400)
    by_person = stats.sem(n_right / 4)
    assert by_person == pytest.approx(0.0148, abs=5e-5)
    assert (high - low) / 2 == pytest.approx(1.96 * by_person, rel=0.05)
    assert (share, n) == (pytest.approx(n_right.mean() / 4), 400)


def test_without_questions_everything_is_possible() -> None:
    mean, *others = share_interval([], [])
    assert math.isnan(mean) and others == [0.0, 1.0, 0]


@pytest.mark.parametrize(
    "counts", [([-1], [3]), ([4], [3]), ([0], [0]), ([1, 1], [2]), ([math.nan, 1], [2, 2])]
)
def test_impossible_counts_are_refused(counts: tuple[list[int], list[int]]) -> None:
    with pytest.raises(ValueError, match="Expected as many counts of right answers as of questions"):
        share_interval(*counts)


@pytest.mark.parametrize("n_freedom", [1, 2, 3, 4, 5, 9, 10, 29, 30, 101, 1000])
def test_student_quantiles_are_scipys(n_freedom: int) -> None:
    assert student_quantile(n_freedom) == pytest.approx(stats.t.ppf(0.975, n_freedom), rel=1e-9)


@pytest.mark.parametrize("n", [2, 4, 31, 32, 50])
def test_the_interval_of_a_mean_is_students(n: int) -> None:
    values = [(0.7 * number) % 1 for number in range(n)]
    found = mean_interval(values)
    expected = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((np.mean(values), *expected, n), rel=1e-9)


@pytest.mark.parametrize("is_share", [False, True])
def test_one_value_has_no_interval(is_share: bool) -> None:
    mean, low, high, n = mean_interval([0.5], is_share)
    assert (mean, n) == (0.5, 1) and math.isnan(low) and math.isnan(high)


def test_values_that_are_all_the_same_do_not_tell_how_much_others_differ() -> None:
    mean, low, high, n = mean_interval([0.1] * 3)
    assert (mean, n) == (0.1, 3) and math.isnan(low) and math.isnan(high)
    assert mean_interval([1.0] * 3, is_share=True) == pytest.approx((1.0, 0.025 ** (1 / 3), 1.0, 3))


@example([0.0, 1.0484170968387567e-157])
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_interval_of_a_share_stays_between_0_and_1(values: list[float]) -> None:
    for found in (
        mean_interval(values, is_share=True),
        seeds_interval([Interval(value, value / 2, (1 + value) / 2, 9) for value in values]),
    ):
        assert 0 <= found.low <= found.mean + 1e-12 and found.mean - 1e-12 <= found.high <= 1


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize("values", [[0.1, math.nan], [math.nan, 0.1], [0.1, math.nan, 0.3], [0.1, math.inf]])
def test_values_of_which_one_is_not_finite_have_neither_a_mean_nor_an_interval(values: list[float]) -> None:
    mean, low, high, n = mean_interval(values)
    assert not math.isfinite(mean) and math.isnan(low) and math.isnan(high) and n == len(values)


@pytest.mark.parametrize("values", [[87.0, 88.0], [-0.1, 0.2], [0.5, math.nan]])
def test_what_is_no_share_has_no_interval_of_shares(values: list[float]) -> None:
    with pytest.raises(ValueError, match="Expected shares, from 0 to 1; got"):
        mean_interval(values, is_share=True)
    assert mean_interval([1.0, 1 + 1e-7], is_share=True).high == pytest.approx(1)  # rounding


def test_seeds_that_agree_have_the_interval_of_their_questions() -> None:
    own = Interval(1.0, 0.963, 1.0, 100)
    assert seeds_interval([own, own]) == pytest.approx((1.0, 0.963, 1.0, 2))


def test_seeds_and_questions_add_up_as_squares() -> None:
    own = [Interval(mean, mean - 0.03, mean + 0.04, 50) for mean in (0.4, 0.5, 0.6)]
    for is_share in (True, False):
        between = mean_interval([0.4, 0.5, 0.6], is_share)
        found = seeds_interval(own, is_share)
        assert found.low == pytest.approx(0.5 - math.hypot(0.5 - between.low, 0.03))
        assert found.high == pytest.approx(0.5 + math.hypot(between.high - 0.5, 0.04))


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(seeds_interval([Interval(0.5, 0.4, 0.6, 50)]).low)


def test_a_measure_that_is_no_share_may_leave_0_and_1() -> None:
    own = [Interval(mean, mean - 0.5, mean + 0.5, 50) for mean in (0.1, 0.9)]
    found = seeds_interval(own, is_share=False)
    assert found.low < 0 and found.high > 1
