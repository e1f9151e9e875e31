"""How often each interval of the project holds the truth, and how often its test cries wolf: by simulation.

Nominal are 95 % and 5 %; required are at least 93 % in every case below, and at most 6 %. The cases where a
few seeds cannot do it are at the end of the section on seeds, with what is reached there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from nanollama.statistics import (
    Interval,
    bootstrap_interval,
    equivalence_test,
    exact_ends,
    holm,
    independent_number,
    mean_interval,
    ratio_interval,
    seeds_interval,
    share_interval,
    sign_flip_test,
)

ENOUGH = 0.93
ENDS = np.vectorize(exact_ends)


def rates_of(rng: np.random.Generator, mean: float, correlation: float, shape: tuple[int, ...]) -> np.ndarray:
    """Chances of a right answer: beta with this mean, so that two answers of one unit correlate like this."""
    if correlation == 0:
        return np.full(shape, mean)
    if correlation == 1:
        return (rng.random(shape) < mean).astype(float)
    weight = 1 / correlation - 1
    return rng.beta(mean * weight, (1 - mean) * weight, shape)


def coverage(interval: Callable[[Sequence[float]], Interval], samples: np.ndarray, truth: float) -> float:
    """Share of the samples, one a row, whose interval holds the truth."""
    found = [interval(row) for row in samples.tolist()]
    return float(np.mean([low <= truth <= high for _, low, high, _ in found]))


def share_coverage(n_right: np.ndarray, n_asked: np.ndarray, truth: float) -> float:
    """That of `share_interval` in many sets of units, one a row."""
    shares = n_right.sum(-1) / n_asked.sum(-1)
    low, high = ENDS(shares, independent_number(n_right, n_asked))
    assert share_interval(n_right[0].tolist(), n_asked[0].tolist())[:3] == (shares[0], low[0], high[0])
    return float(((low <= truth) & (truth <= high)).mean())


# --- Shares of one model: recall of sets and attributes, in training, examination, demo, circuit.


@pytest.mark.parametrize("n_units", [20, 100, 400])
@pytest.mark.parametrize("sizes", [(4,), (1, 2, 3, 4)], ids=["4", "1 to 4"])
def test_shares_of_answers_about_people(n_units: int, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(n_units)
    n_asked = np.broadcast_to(np.resize(sizes, n_units).astype(float), (600, n_units))
    covered = {}
    for truth in (0.5, 0.9, 0.97, 0.99):
        for correlation in (0.0, 0.2, 0.7, 1.0):
            rates = rates_of(rng, truth, correlation, n_asked.shape)
            n_right = rng.binomial(n_asked.astype(int), rates).astype(float)
            covered[truth, correlation] = share_coverage(n_right, n_asked, truth)
    assert min(covered.values()) >= ENOUGH, covered


@pytest.mark.parametrize("n_units", [2, 3, 5, 8])
def test_shares_of_answers_about_very_few_people(n_units: int) -> None:
    rng = np.random.default_rng(n_units)
    n_asked = np.full((600, n_units), 4.0)
    covered = {}
    for truth in (0.5, 0.9, 0.97):
        for correlation in (0.0, 0.3, 0.7, 1.0):
            n_right = rng.binomial(4, rates_of(rng, truth, correlation, n_asked.shape)).astype(float)
            covered[truth, correlation] = share_coverage(n_right, n_asked, truth)
    assert min(covered.values()) >= ENOUGH, covered


@pytest.mark.parametrize("n_units", [5, 20, 400])
def test_shares_of_sums_and_of_one_attribute(n_units: int) -> None:
    """One question a unit."""
    rng = np.random.default_rng(n_units)
    covered = {}
    for truth in (0.02, 0.5, 0.9, 0.97, 0.99, 0.992, 0.995):
        n_right = rng.binomial(1, truth, (1000, n_units)).astype(float)
        covered[truth] = share_coverage(n_right, np.ones_like(n_right), truth)
    assert min(covered.values()) >= ENOUGH, covered


# --- Means over seeds: tables of reports and grids, results of grids, bands of figures.


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_means_over_seeds(n_seeds: int) -> None:
    rng = np.random.default_rng(n_seeds)
    for draw in (rng.normal, rng.logistic):
        assert coverage(mean_interval, draw(2.0, 1.0, (1500, n_seeds)), 2.0) >= ENOUGH


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
def test_mean_shares_over_seeds_without_intervals_of_their_own(n_seeds: int) -> None:
    """From seeds that differ only by chance to rates that fall off from 1 (beta 8.1, .9)."""
    rng = np.random.default_rng(n_seeds)
    covered = {}
    for truth, correlation in ((0.5, 0.003), (0.9, 0.0), (0.9, 0.1), (0.97, 0.03), (0.99, 0.0), (0.99, 0.01)):
        rates = rates_of(rng, truth, correlation, (2000, n_seeds))
        shares = rng.binomial(512, rates) / 512
        covered[truth, correlation] = coverage(lambda row: mean_interval(row, True), shares, truth)
    assert min(covered.values()) >= ENOUGH, covered


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
def test_all_or_nothing_seeds(n_seeds: int) -> None:
    rng = np.random.default_rng(n_seeds)
    for truth in (0.5, 0.9, 0.97):
        shares = rates_of(rng, truth, 1.0, (400, n_seeds))
        assert coverage(lambda row: mean_interval(row, True), shares, truth) >= ENOUGH


def crossed(
    rng: np.random.Generator, truth: float, shape: tuple[int, int, int], seeds: float, people: float
) -> np.ndarray:
    """Right answers of (sets of seeds, seeds, people), four questions each, the same people for all seeds.

    An answer is right if a normal variable is below a threshold; ``seeds`` and ``people`` are their shares of
    its variance.
    """
    n_sets, n_seeds, n_people = shape
    common = rng.normal(0, seeds**0.5, (n_sets, n_seeds, 1, 1)) + rng.normal(
        0, people**0.5, (n_sets, 1, n_people, 1)
    )
    rest = rng.standard_normal((*shape, 4), dtype=np.float32) * (1 - seeds - people) ** 0.5
    return (common + rest < ndtri(truth)).sum(-1).astype(float)


def own_intervals(n_right: np.ndarray) -> list[list[Interval]]:
    """Those of each seed's answers."""
    n_people = n_right.shape[-1]
    shares = n_right.mean(-1) / 4
    low, high = ENDS(shares, independent_number(n_right, np.full_like(n_right, 4.0)))
    return [
        [Interval(*ends, n_people) for ends in zip(*of_set, strict=True)]
        for of_set in zip(shares.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
def test_recall_over_seeds_that_are_asked_the_same_questions(n_seeds: int) -> None:
    rng = np.random.default_rng(n_seeds)
    covered, narrower = {}, {}
    for truth in (0.5, 0.9, 0.99):
        for seeds, people in ((0.0, 0.0), (0.0, 0.6), (0.02, 0.6), (0.3, 0.3)):
            sets = own_intervals(crossed(rng, truth, (300, n_seeds, 25), seeds, people))
            found = [seeds_interval(own) for own in sets]
            within = [np.mean([seed.high - seed.low for seed in own]) for own in sets]
            narrower[truth, seeds, people] = min(
                interval.high - interval.low - width for interval, width in zip(found, within, strict=True)
            )
            covered[truth, seeds, people] = float(np.mean([each.low <= truth <= each.high for each in found]))
    assert min(covered.values()) >= ENOUGH, covered
    assert min(narrower.values()) >= -1e-9, narrower


@pytest.mark.parametrize(
    ("n_seeds", "reached"),
    [(2, 0.65), (3, 0.64), (8, 0.73)],
)
def test_a_few_seeds_do_not_know_of_a_rare_one_that_fails(n_seeds: int, reached: float) -> None:
    """The exception: mean .99, as most seeds are almost perfect and few far below (beta 8.9, .09)."""
    rates = rates_of(np.random.default_rng(n_seeds), 0.99, 0.1, (2000, n_seeds))
    assert coverage(lambda row: mean_interval(row, True), rates, 0.99) == pytest.approx(reached, abs=0.03)


# --- Pairs of runs, and pairs of answers.


@pytest.mark.parametrize("n_pairs", [2, 3, 5, 8])
def test_ratios_of_pairs(n_pairs: int) -> None:
    ratios = np.exp(np.random.default_rng(n_pairs).normal(1.0, 0.8, (2000, n_pairs)))
    assert coverage(ratio_interval, ratios, np.e) >= ENOUGH


@pytest.mark.parametrize("n_pairs", [5, 8, 24])
def test_sign_flips_find_a_difference_where_there_is_none_in_one_of_twenty(n_pairs: int) -> None:
    rng = np.random.default_rng(n_pairs)
    n_sets = 1000 if n_pairs <= 20 else 400  # drawn signs take their time
    for differences in (
        rng.normal(size=(n_sets, n_pairs)),
        rng.choice([-1.0, 1.0, 3.0, -3.0], (n_sets, n_pairs)),
    ):
        assert np.mean([sign_flip_test(row) <= 0.05 for row in differences.tolist()]) <= 0.06


@pytest.mark.parametrize("n_pairs", [8, 20])
def test_bootstrap_of_differences(n_pairs: int) -> None:
    rng = np.random.default_rng(n_pairs)
    shape = (800, n_pairs)
    samples = {
        "normal": (rng.normal(0.0, 1.0, shape), 0.0),
        "skewed": (rng.exponential(1.0, shape), 1.0),
        "flat": (rng.uniform(0.0, 1.0, shape), 0.5),
    }
    for draws, truth in samples.values():
        found = [bootstrap_interval(row) for row in draws.tolist()]
        assert np.mean([low <= truth <= high for _, low, high, _ in found]) >= ENOUGH


@pytest.mark.parametrize("n_pairs", [2, 3, 5, 10])
def test_a_difference_as_large_as_the_margin_is_called_none_in_one_of_twenty(n_pairs: int) -> None:
    rng = np.random.default_rng(n_pairs)
    for spread in (0.1, 0.5, 2.0):
        differences = rng.normal(1.0, spread, (4000, n_pairs))
        rate = np.mean([equivalence_test(row, 1.0) <= 0.05 for row in differences.tolist()])
        assert rate <= 0.06
        assert spread > 0.1 or rate >= 0.04  # and is not much too strict where it can tell


def test_of_equal_differences_none_is_missed() -> None:
    differences = np.random.default_rng(0).normal(0.0, 0.2, (500, 5))
    assert np.mean([equivalence_test(row, 1.0) <= 0.05 for row in differences.tolist()]) >= 0.99


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_of_several_claims_any_is_false_in_one_of_twenty_grids(correlation: float) -> None:
    """Six claims in a grid, four of them of no difference, whose p values may go together."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4000, 1)) * correlation**0.5
    told = common + rng.normal(size=(4000, 6)) * (1 - correlation) ** 0.5 + [0, 0, 0, 0, 3, 4]
    p_values = 1 - ndtr(told)
    false = [min(holm(row)[:4]) <= 0.05 for row in p_values.tolist()]
    assert np.mean(false) <= 0.06
    assert np.mean(p_values[:, :4].min(axis=1) <= 0.05) > 0.06  # as it would be without
