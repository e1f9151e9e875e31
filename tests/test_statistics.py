"""Wilson intervals: published values, another implementation, coverage, edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from nanollama.statistics import wilson_interval


@pytest.mark.parametrize(
    ("n_successes", "n_trials", "low", "high"),
    # Table I of Newcombe (1998), Statistics in Medicine 17, 857-872, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_values(n_successes: int, n_trials: int, low: float, high: float) -> None:
    assert wilson_interval(n_successes, n_trials) == pytest.approx((low, high), abs=5e-5)


@given(
    st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.01, 0.999)
)
def test_equals_scipy(counts: tuple[int, int], confidence: float) -> None:
    n_successes, n_trials = counts
    low, high = wilson_interval(n_successes, n_trials, confidence)
    other = binomtest(n_successes, n_trials).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((other.low, other.high), abs=1e-9)
    assert 0 <= low <= n_successes / n_trials <= high <= 1


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.97])
def test_holds_the_truth_as_often_as_it_says(truth: float) -> None:
    n_trials = 400
    held = [
        k for k in range(n_trials + 1) if math.prod(truth - end for end in wilson_interval(k, n_trials)) <= 0
    ]
    assert float(binom.pmf(held, n_trials, truth).sum()) == pytest.approx(0.95, abs=0.02)


def test_without_trials_everything_is_possible() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("arguments", [(-1, 3), (4, 3), (0, -1), (1, 2, 0.0), (1, 2, 1.0)])
def test_impossible_counts_are_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Expected 0 <= successes <= trials and 0 < confidence < 1, got"):
        wilson_interval(*arguments)  # type: ignore[arg-type]
