"""Sequences: as often as the kernels say, and the same whoever draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from small_graphs import make_graph, random_graph

from apps.gssm.alias import build
from apps.gssm.graph import NodeConfig
from apps.gssm.kernels import draw_kernels
from apps.gssm.sampler import Sample, Sampler

X: dict[str, Any] = {"name": "X", "state_dim": 5, "alpha": 0.5, "observed": True}
CHAIN = make_graph(
    {"name": "A", "state_dim": 3, "alpha": 0.5, "mode": "slow"},
    {"name": "B", "state_dim": 4, "alpha": 0.5, "parents": ("A",), "mode": "dead"},
    {
        "name": "C",
        "state_dim": 2,
        "alpha": 0.5,
        "parents": ("A", "B"),
        "kernel_type": "fullrank",
        "mode": "context",
    },
    {**X, "parents": ("C", "A")},
    n_contexts=3,
)


def assert_same(some: Sample, other: Sample) -> None:
    assert np.array_equal(some.symbols, other.symbols)
    assert all(np.array_equal(some.latents[name], other.latents[name]) for name in some.latents)


def goodness_of_fit(sample: Sample, kernels: Any, node: NodeConfig) -> float:
    """P-value of a chi-square test of a node's new states, given all it sees, against its table."""
    graph = kernels.graph
    paths = {**sample.latents, graph.observed.name: sample.symbols}
    n, n_steps = sample.symbols.shape
    old = np.concatenate([np.zeros((n, 1), dtype=np.int64), paths[node.name][:, :-1]], axis=1)
    seen = [old if each.name == node.name else paths[each.name] for each in graph.inputs(node)]
    context = np.zeros((n, n_steps), dtype=np.int64)
    if node.mode == "context":
        context += sample.contexts[:, None]
    table = np.exp(kernels.log_table(node))
    counts = np.zeros(table.shape)
    np.add.at(counts, (context, *seen, paths[node.name]), 1)
    expected = counts.sum(axis=-1, keepdims=True) * table
    assert not counts[table < 1e-12].any()
    cells = expected >= 5
    statistic = ((counts - expected)[cells] ** 2 / expected[cells]).sum()
    degrees = cells.sum() - (cells.sum(axis=-1) > 0).sum()
    return float(stats.chi2.sf(statistic, max(degrees, 1)))


@pytest.mark.parametrize("name", ["A", "B", "C", "X"])
def test_states_are_as_frequent_as_the_kernels_say(name: str) -> None:
    kernels = draw_kernels(CHAIN, 0)
    sample = Sampler(kernels, 1).sample(range(3000), 25)
    assert goodness_of_fit(sample, kernels, CHAIN.node(name)) > 1e-3


def test_states_of_random_graphs_are_as_frequent_as_the_kernels_say() -> None:
    found = []
    for seed in range(25):
        kernels = draw_kernels(random_graph(seed), seed)
        sample = Sampler(kernels, seed).sample(range(400), 12)
        found += [goodness_of_fit(sample, kernels, node) for node in kernels.graph.nodes]
    assert min(found) > 1e-5


def test_contexts_are_taken_evenly_from_the_library() -> None:
    contexts = Sampler(draw_kernels(CHAIN, 0), 1).sample(range(3000), 1).contexts
    assert stats.chisquare(np.bincount(contexts, minlength=3)).pvalue > 1e-3


@pytest.mark.parametrize("fresh", [False, True])
def test_a_sequence_is_the_same_in_any_batch(fresh: bool) -> None:
    graph = CHAIN.model_copy(update={"n_contexts": None}) if fresh else CHAIN
    kernels = draw_kernels(graph, 0)
    whole = Sampler(kernels, 1).sample(range(200), 30)
    for numbers in (range(7, 8), range(3, 200, 5), range(70, 150), range(128, 199, 4)):
        part = Sampler(kernels, 1).sample(numbers, 30)
        assert np.array_equal(part.symbols, whole.symbols[list(numbers)])
        assert all(np.array_equal(part.latents[name], whole.latents[name][list(numbers)]) for name in "ABC")
    assert np.array_equal(Sampler(kernels, 1).sample(range(200), 13).symbols, whole.symbols[:, :13])
    assert len(np.unique(whole.symbols, axis=0)) == 200, "no two sequences are alike"


def test_a_sequence_is_the_same_however_many_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(draw_kernels(CHAIN, 0), 1)
    whole = sampler.sample(range(20), 31)
    monkeypatch.setattr("apps.gssm.sampler.N_BLOCK", 50)
    assert_same(sampler.sample(range(20), 31), whole)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_one_global_batch(world_size: int) -> None:
    kernels = draw_kernels(CHAIN, 0)
    whole = Sampler(kernels, 1).sample(range(64, 96), 20).symbols
    shares = [
        Sampler(kernels, 1).sample(range(64 + rank, 96, world_size), 20).symbols for rank in range(world_size)
    ]
    assert np.array_equal(np.stack(shares, axis=1).reshape(32, 20), whole)
    assert len(np.unique(whole, axis=0)) == 32, "no two sequences are alike"


def test_another_seed_gives_other_sequences_of_the_same_source() -> None:
    kernels = draw_kernels(CHAIN, 0)
    some, other = (Sampler(kernels, seed).sample(range(20), 30).symbols for seed in (1, 2))
    assert (some != other).mean() > 0.2


def test_a_latent_keeps_its_path_when_others_come() -> None:
    latent = {"name": "A", "state_dim": 3, "alpha": 0.5}
    few, more = (
        Sampler(draw_kernels(make_graph(*nodes), 0), 1).sample(range(9), 20)
        for nodes in ([latent, X], [{**latent, "name": "B"}, latent, {**X, "parents": ("B", "A")}])
    )
    assert np.array_equal(few.latents["A"], more.latents["A"])


@pytest.mark.parametrize("kernel_type", ["product", "fullrank"])
def test_fresh_contexts_differ_between_sequences_and_average_to_uniform(kernel_type: str) -> None:
    """Two symbols of a sequence agree with probability (alpha + 1) / (D alpha + 1), of two 1 / D."""
    graph = make_graph({**X, "mode": "context", "kernel_type": kernel_type})
    symbols = Sampler(draw_kernels(graph, 0), 1).sample(range(4000), 2).symbols
    within = (symbols[:, 0] == symbols[:, 1]).mean()
    assert within == pytest.approx(1.5 / 3.5, abs=4 * np.sqrt(0.25 / 4000))
    between = (symbols[1:, 0] == symbols[:-1, 0]).mean()
    assert between == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 4000))


def test_fresh_contexts_move_from_where_they_are() -> None:
    """Rows of one state each: a path follows a map of its own, which another sequence does not have."""
    graph = make_graph(
        {"name": "A", "state_dim": 6, "alpha": 1e-6, "mode": "context"}, {**X, "parents": ("A",)}
    )
    paths = Sampler(draw_kernels(graph, 0), 1).sample(range(30), 20).latents["A"]
    maps = []
    for path in paths:
        moves = {(int(old), int(new)) for old, new in zip((0, *path[:-1]), path, strict=True)}
        assert len({old for old, _ in moves}) == len(moves), "one way out of each state"
        maps.append(frozenset(moves))
    assert max(map(len, maps)) >= 3
    assert len(set(maps)) >= 15


def test_fresh_contexts_are_seen_by_children_as_any_latent_is() -> None:
    """A child that sees a context node shows which state that is in; one kernel of the child for all."""
    graph = make_graph(
        {"name": "A", "state_dim": 3, "alpha": 0.5, "mode": "context"}, {**X, "parents": ("A",)}
    )
    kernels = draw_kernels(graph, 0)
    sample = Sampler(kernels, 1).sample(range(600), 20)
    assert goodness_of_fit(sample, kernels, graph.observed) > 1e-3


@pytest.mark.parametrize("n_states", [1, 2, 7, 32])
def test_alias_tables_hold_the_probabilities(n_states: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.dirichlet([alpha] * n_states, 50) for alpha in (0.05, 1.0, 50.0)]
        + [np.eye(n_states), np.full((1, n_states), 1 / n_states)]
    )
    keep, alias = build(rows)
    found = keep / n_states
    every = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    np.add.at(found, (every, alias), (1 - keep) / n_states)
    assert np.allclose(found, rows, atol=1e-14)
    assert ((keep >= 0) & (keep <= 1)).all()
    assert not found[rows == 0].any(), "what is impossible is never drawn"
