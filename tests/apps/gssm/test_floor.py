"""The floor beside sums over all hidden paths, beside hmmlearn, and beside closed forms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from small_graphs import BruteForce, make_graph, random_graph

from apps.gssm.entropy import entropy, surprisals
from apps.gssm.floor import Floor
from apps.gssm.graph import GraphConfig
from apps.gssm.kernels import Kernels, draw_kernels
from apps.gssm.log_floor import log_pass
from apps.gssm.sampler import Sampler
from apps.gssm.tables import CONTEXT
from nanollama.errors import UserError

T = 3
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
X = {"name": "X", "state_dim": 4, "alpha": 0.5, "observed": True}


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_likelihoods_are_sums_over_all_hidden_paths(first: int) -> None:
    """200 graphs; the symbols are any, so that some sequences are as unlikely as 1e-200."""
    for seed in range(first, first + 20):
        kernels = draw_kernels(random_graph(seed), seed)
        brute = BruteForce(kernels)
        symbols = np.random.default_rng(seed).integers(kernels.graph.vocab_size, size=(2, T))
        exact = Floor(kernels).exact(symbols, next_symbols=True)
        for row, terms, following in zip(symbols, exact.log_likelihood, exact.next_symbols, strict=True):
            before = 0.0
            for t in range(T):
                total = brute.log_likelihood(row[: t + 1])
                assert np.isclose(terms[: t + 1].sum(), total, **CLOSE), (seed, t)
                assert np.isclose(following[t, row[t]], np.exp(total - before), **CLOSE), (seed, t)
                before = total
        assert np.allclose(exact.next_symbols.sum(axis=2), 1.0, **CLOSE)


def test_next_symbols_are_ratios_of_likelihoods_for_every_symbol() -> None:
    kernels = draw_kernels(random_graph(6), 6)
    brute = BruteForce(kernels)
    symbols = np.zeros((1, T), dtype=np.int64)
    following = Floor(kernels).exact(symbols, next_symbols=True).next_symbols
    for symbol in range(kernels.graph.vocab_size):
        other = np.array([0, 0, symbol])
        ratio = np.exp(brute.log_likelihood(other) - brute.log_likelihood(other[:2]))
        assert np.isclose(following[0, 2, symbol], ratio, **CLOSE)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_posteriors_are_shares_of_the_hidden_paths(seed: int) -> None:
    kernels = draw_kernels(random_graph(seed), seed)
    brute = BruteForce(kernels)
    symbols = np.random.default_rng(seed).integers(kernels.graph.vocab_size, size=(1, T))
    posteriors = Floor(kernels).exact(symbols, posteriors=True).posteriors
    for name in brute.names:
        for t in range(T):
            assert np.allclose(posteriors[name][0, t], brute.posterior(symbols[0, : t + 1], name), **CLOSE)


def as_one_hmm(brute: BruteForce) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, transitions and emissions of the states of all latents together."""
    moves = np.exp([[brute.log_move(0, old, new) for new in brute.states] for old in brute.states])
    symbols = range(brute.graph.vocab_size)
    return moves[0], moves, np.exp([[brute.log_emit(0, state, x) for x in symbols] for state in brute.states])


@pytest.mark.parametrize("kernel_type", ["product", "fullrank"])
def test_likelihoods_are_those_of_hmmlearn(kernel_type: str) -> None:
    hmm = pytest.importorskip("hmmlearn.hmm")
    latents = [
        {"name": "A", "state_dim": 3, "alpha": 0.4, "mode": "slow"},
        {"name": "B", "state_dim": 4, "alpha": 0.4, "parents": ("A",), "kernel_type": kernel_type},
        {"name": "C", "state_dim": 2, "alpha": 0.4, "parents": ("B", "A"), "kernel_type": kernel_type},
    ]
    graph = make_graph(*latents, {**X, "parents": ("C", "A"), "kernel_type": kernel_type})
    kernels = draw_kernels(graph, 3)
    model = hmm.CategoricalHMM(n_components=24, init_params="", params="")
    model.n_features = 4
    model.startprob_, model.transmat_, model.emissionprob_ = as_one_hmm(BruteForce(kernels))
    symbols = Sampler(kernels, 4).sample(range(20), 50).symbols
    total = Floor(kernels).log_likelihood(symbols).sum(axis=1)
    expected = [model.score(row[:, None]) for row in symbols]
    assert np.allclose(total, expected, rtol=1e-9, atol=0)


def test_a_library_is_the_mixture_of_its_contexts() -> None:
    """And the posterior over contexts, at every step, is what the parts of the mixture have become."""
    graph = make_graph(
        {"name": "Z", "state_dim": 3, "alpha": 0.3, "mode": "context"},
        {**X, "parents": ("Z",)},
        n_contexts=5,
    )
    kernels = draw_kernels(graph, 0)
    plain = make_graph({"name": "Z", "state_dim": 3, "alpha": 0.3}, {**X, "parents": ("Z",)})
    symbols = Sampler(kernels, 1).sample(range(6), 40).symbols
    parts = []
    for context in range(5):
        alone = {"Z": (kernels.log_matrices["Z"][0][[context]],), "X": kernels.log_matrices["X"]}
        parts.append(Floor(Kernels(plain, alone)).log_likelihood(symbols).cumsum(axis=1))
    joint = np.stack(parts, axis=2) - np.log(5)
    total = np.logaddexp.reduce(joint, axis=2)
    exact = Floor(kernels).exact(symbols, posteriors=True)
    assert np.allclose(exact.log_likelihood.cumsum(axis=1), total, rtol=1e-9, atol=0)
    assert np.allclose(exact.posteriors[CONTEXT], np.exp(joint - total[:, :, None]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", [6, 11, 23])
def test_logarithms_and_scaled_passes_agree(seed: int) -> None:
    kernels = draw_kernels(random_graph(seed), seed)
    floor = Floor(kernels)
    symbols = Sampler(kernels, seed).sample(range(1), 30).symbols
    scaled = floor.exact(symbols, next_symbols=True, posteriors=True)
    logs = floor.exact(np.flip(symbols), next_symbols=True, posteriors=True)  # to be written over
    part = type(logs)(
        logs.log_likelihood[0],
        logs.next_symbols[0],
        {name: each[0] for name, each in logs.posteriors.items()},
    )
    log_pass(floor._tables, symbols[0], part)
    assert np.allclose(logs.log_likelihood, scaled.log_likelihood, **CLOSE)
    assert np.allclose(logs.next_symbols, scaled.next_symbols, **CLOSE)
    assert all(
        np.allclose(logs.posteriors[name], scaled.posteriors[name], **CLOSE) for name in logs.posteriors
    )


def test_a_sequence_that_underflows_has_its_likelihood_and_leaves_its_neighbours_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apps.gssm.floor.N_BELIEF", 3 * 10)  # ten sequences at a time
    graph = make_graph(
        {"name": "Z", "state_dim": 3, "alpha": 0.002}, {**X, "alpha": 0.002, "parents": ("Z",)}
    )
    kernels = draw_kernels(graph, 0)
    likely = Sampler(kernels, 1).sample(range(1), T).symbols
    every = np.stack(np.meshgrid(*[np.arange(4)] * T), axis=-1).reshape(-1, T)
    symbols = np.concatenate([likely, every])
    found = Floor(kernels).exact(symbols, next_symbols=True)
    brute = BruteForce(kernels)
    total = found.log_likelihood.sum(axis=1)
    assert np.allclose(total, [brute.log_likelihood(row) for row in symbols], **CLOSE)
    assert total.min() < -1000, "below the logarithm of the least float64"
    assert np.array_equal(found.log_likelihood[0], Floor(kernels).log_likelihood(likely)[0])
    assert np.allclose(found.next_symbols.sum(axis=2), 1.0, **CLOSE)


def test_products_at_the_edge_of_float64_keep_their_digits() -> None:
    """A state of e^-370 alone explains, with e^-370.3, the symbol 1: no digits are left of the product."""
    graph = make_graph({"name": "Z", "state_dim": 2, "alpha": 1.0}, {**X, "state_dim": 2, "parents": ("Z",)})
    rare = {
        "Z": (np.array([[[0.0, -370.0], [0.0, -370.0]]]),),
        "X": (np.array([[[0.0, -2000], [0, -370.3]]]),),
    }
    kernels = Kernels(graph, rare)
    expected = BruteForce(kernels).log_likelihood(np.array([0, 1]))
    assert np.allclose(Floor(kernels).log_likelihood(np.array([[0, 1]])).sum(), expected, rtol=1e-12)


def test_sequences_in_turns_are_those_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = draw_kernels(random_graph(9), 9)
    symbols = Sampler(kernels, 1).sample(range(7), 20).symbols
    whole = Floor(kernels).exact(symbols, next_symbols=True)
    monkeypatch.setattr("apps.gssm.floor.N_BELIEF", 3 * Floor(kernels)._tables.n_states)
    turns = Floor(kernels).exact(symbols, next_symbols=True)
    assert np.allclose(turns.log_likelihood, whole.log_likelihood, rtol=1e-12)
    assert np.allclose(turns.next_symbols, whole.next_symbols, rtol=1e-12)


def test_four_latents_of_16_states_are_never_a_dense_matrix() -> None:
    latents = [{"name": f"Z{i}", "state_dim": 16, "alpha": 0.3} for i in range(4)]
    graph = make_graph(*latents, {**X, "state_dim": 32, "parents": tuple(f"Z{i}" for i in range(4))})
    kernels = draw_kernels(graph, 0)
    symbols = Sampler(kernels, 1).sample(range(8), 3).symbols
    tracemalloc.start()
    exact = Floor(kernels).exact(symbols, next_symbols=True, posteriors=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 * 2**20
    assert np.allclose(
        np.take_along_axis(exact.next_symbols, symbols[:, :, None], 2)[:, :, 0], np.exp(exact.log_likelihood)
    )


def by_position(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entropy of each symbol given those before it, and its standard error."""
    return terms.mean(axis=0), terms.std(axis=0, ddof=1) / np.sqrt(len(terms))


def test_the_entropy_of_independent_symbols_has_a_closed_form() -> None:
    kernels = draw_kernels(make_graph({**X, "state_dim": 8}), 0)
    log_p = kernels.log_matrices["X"][0][0, 0]
    exact = -(np.exp(log_p) * log_p).sum()
    found = entropy(kernels, 400, 50, seed=1)
    assert abs(found.rate_nats - exact) < 4 * found.rate_error < 0.05
    means, errors = by_position(surprisals(kernels, 400, 50, seed=1))
    assert (abs(means - exact) < 5 * errors).all()


def test_a_deterministic_source_has_no_entropy() -> None:
    graph = make_graph({"name": "Z", "state_dim": 5, "alpha": 1e-6}, {**X, "alpha": 1e-6, "parents": ("Z",)})
    found = entropy(draw_kernels(graph, 0), 3, 20, seed=1)
    assert abs(found.rate_nats) < 1e-12


def test_the_entropy_of_a_chain_in_the_open_has_a_closed_form() -> None:
    """X shows Z: symbol t has the entropy of the row of the state before it."""
    graph = make_graph({"name": "Z", "state_dim": 4, "alpha": 0.5}, {**X, "parents": ("Z",)})
    rows = draw_kernels(graph, 2).log_matrices["Z"][0]
    with np.errstate(divide="ignore"):
        shows = np.log(np.eye(4))[None]
    means, errors = by_position(surprisals(Kernels(graph, {"Z": (rows,), "X": (shows,)}), 2000, 6, seed=1))
    moves = np.exp(rows[0])
    row_entropies, where = -(moves * rows[0]).sum(axis=1), np.eye(4)[0]
    for t in range(6):
        assert abs(means[t] - where @ row_entropies) < 4 * errors[t] < 0.1
        where = where @ moves


def test_standard_errors_shrink_as_they_should() -> None:
    kernels = draw_kernels(random_graph(6), 6)
    few, many = (entropy(kernels, n, 10, seed=1) for n in (200, 1800))
    assert few.rate_error / many.rate_error == pytest.approx(3, rel=0.25)
    assert many.rate_nats == pytest.approx(surprisals(kernels, 1800, 10, seed=1).mean())


def test_what_has_no_floor_is_refused() -> None:
    fresh = make_graph({**X, "mode": "context"})
    with pytest.raises(UserError, match=r"afresh for every sequence.*give n_contexts"):
        Floor(draw_kernels(fresh, 0))
    kernels = draw_kernels(GraphConfig.model_validate("debug"), 0)
    with pytest.raises(UserError, match="hold the symbol 8; the graph has symbols 0 to 7"):
        Floor(kernels).log_likelihood(np.array([[0, 8]]))
    with pytest.raises(UserError, match="hold the symbol -1"):
        Floor(kernels).log_likelihood(np.array([[0, -1]]))
    with pytest.raises(UserError, match="n_sequences = 1 gives no standard error"):
        entropy(kernels, 1, 5, seed=0)
