"""Simple predictors beside counts made by hand, and beside the floor."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from apps.gssm.floor import Floor
from apps.gssm.graph import GraphConfig
from apps.gssm.kernels import draw_kernels
from apps.gssm.references import ngram_cross_entropy, unigram_entropy, zlib_nats
from apps.gssm.sampler import Sampler
from nanollama.errors import UserError

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.integers(3, size=(4, 6)), RNG.integers(4, size=(3, 5))


def by_hand(row: list[int], t: int, order: int, strength: float) -> float:
    """p(symbol t of a test row) at an order, straight from the formula."""
    if order == 0:
        return 1 / 4
    context, symbol = row[t - order + 1 : t], row[t]
    seen = [list(train[i : i + order]) for train in TRAIN for i in range(len(train) - order + 1)]
    with_symbol = sum(gram == [*context, symbol] for gram in seen)
    in_all = sum(gram[:-1] == context for gram in seen)
    return (with_symbol + strength * by_hand(row, t, order - 1, strength)) / (in_all + strength)


@pytest.mark.parametrize("order", [1, 2, 3, 9])
@pytest.mark.parametrize("strength", [0.5, 4.0])
def test_ngrams_are_counted_and_back_off(order: int, strength: float) -> None:
    terms = [
        -math.log(by_hand(row.tolist(), t, min(order, t + 1), strength))
        for row in TEST
        for t in range(len(row))
    ]
    assert ngram_cross_entropy(TRAIN, TEST, 4, order, strength) == pytest.approx(np.mean(terms), rel=1e-12)


def test_order_one_with_strength_v_is_the_rule_of_laplace() -> None:
    counts = np.bincount(TRAIN.ravel(), minlength=4)
    expected = -np.log((counts + 1) / (TRAIN.size + 4))[TEST].mean()
    assert ngram_cross_entropy(TRAIN, TEST, 4, 1, strength=4.0) == pytest.approx(expected)


def test_ngrams_too_long_to_number_are_refused() -> None:
    with pytest.raises(UserError, match="order 13 over 32 symbols"):
        ngram_cross_entropy(TRAIN, TEST, 32, 13)
    with pytest.raises(UserError, match="expected an order >= 1"):
        ngram_cross_entropy(TRAIN, TEST, 32, 0)


def test_the_unigram_entropy_is_that_of_the_shares() -> None:
    assert unigram_entropy(np.array([[0, 0, 3, 3], [5, 5, 3, 3]])) == pytest.approx(1.5 * math.log(2))
    assert f"{unigram_entropy(np.zeros((3, 5), dtype=np.int64)):g}" == "0", "not -0"


@pytest.mark.parametrize(("vocab_size", "n_bits"), [(2, 1), (8, 3), (9, 4), (32, 5)])
def test_zlib_reads_bits_packed_without_gaps(vocab_size: int, n_bits: int) -> None:
    symbols = np.random.default_rng(0).integers(vocab_size, size=(5, 1000))
    packed = int("".join(f"{symbol:0{n_bits}b}" for symbol in symbols.ravel()), 2)
    text = packed.to_bytes(math.ceil(n_bits * 5000 / 8), "big")
    expected = len(zlib.compress(text, 9)) * 8 * math.log(2) / 5000
    assert zlib_nats(symbols, vocab_size) == pytest.approx(expected)


def test_zlib_of_what_cannot_be_compressed_is_the_entropy_and_of_what_repeats_nothing() -> None:
    symbols = np.random.default_rng(0).integers(32, size=(100, 257))
    assert zlib_nats(symbols, 32) == pytest.approx(math.log(32), rel=0.01)
    assert zlib_nats(np.ones((100, 257), dtype=np.int64), 32) < 0.02


def hmm_cross_entropy(train: np.ndarray, test: np.ndarray) -> float:
    """Nats a symbol of a hidden Markov model that hmmlearn has fitted to sequences of 8 symbols."""
    prior = 1.01  # so little more than none that nothing has the probability 0
    model = pytest.importorskip("hmmlearn.hmm").CategoricalHMM(
        n_components=6,
        n_features=8,
        n_iter=20,
        tol=0.0,
        random_state=0,
        startprob_prior=prior,
        transmat_prior=prior,
        emissionprob_prior=prior,
        implementation="scaling",
    )
    model.fit(train.reshape(-1, 1), [train.shape[1]] * len(train))
    return float(-model.score(test.reshape(-1, 1), [test.shape[1]] * len(test)) / test.size)


def test_a_fitted_model_comes_near_the_floor_and_not_below() -> None:
    kernels = draw_kernels(GraphConfig.model_validate("debug"), 0)
    train = Sampler(kernels, 1).sample(range(100), 64).symbols
    test = Sampler(kernels, 1).sample(range(100, 200), 64).symbols
    floor = -Floor(kernels).log_likelihood(test).mean()
    assert floor - 0.01 < hmm_cross_entropy(train, test) < unigram_entropy(test) + 0.02
    assert ngram_cross_entropy(train, test, 8, 2) > floor - 0.01
