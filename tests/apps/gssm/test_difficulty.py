"""Alphas that give an entropy rate, and the sentences where none does."""

from __future__ import annotations

from typing import Any

import pytest
from small_graphs import make_graph

from apps.gssm import difficulty
from apps.gssm.difficulty import Match, Trial, alpha_table, match_entropy, measure, with_alpha
from apps.gssm.entropy import Entropy, entropy
from apps.gssm.kernels import draw_kernels
from nanollama.errors import UserError

TRIAL = Trial(n_sequences=32, seq_len=64, kernel_seed=3, sequence_seed=4)
GRAPH = make_graph(
    {"name": "Z", "state_dim": 8, "alpha": 0.3},
    {"name": "X", "state_dim": 16, "alpha": 0.2, "parents": ("Z",), "observed": True},
)


@pytest.mark.parametrize("nodes", [("Z", "X"), ("X",)])
@pytest.mark.parametrize("target", [1.3, 2.0])
def test_an_alpha_is_found_and_gives_that_entropy_again(nodes: tuple[str, ...], target: float) -> None:
    match = match_entropy(GRAPH, nodes, target, 0.01, TRIAL)
    again = entropy(draw_kernels(match.graph, 3), 32, 64, seed=4)
    assert again.rate_nats == match.entropy.rate_nats == pytest.approx(target, abs=0.01)
    for node in match.graph.nodes:
        assert node.alpha == (match.alpha if node.name in nodes else GRAPH.node(node.name).alpha)


def test_two_graphs_are_matched_at_one_entropy() -> None:
    small = make_graph(
        *({"name": name, "state_dim": 3, "alpha": 1.0} for name in "AB"),
        {"name": "X", "state_dim": 16, "alpha": 1.0, "parents": ("A", "B"), "observed": True},
    )
    rates = [
        match_entropy(graph, [node.name for node in graph.nodes], 1.5, 0.02, TRIAL).entropy.rate_nats
        for graph in (GRAPH, small)
    ]
    assert rates[0] == pytest.approx(rates[1], abs=0.04)


def test_common_random_numbers_make_the_entropy_of_near_alphas_near() -> None:
    at = measure(GRAPH, ("X",), 0.2, TRIAL).entropy
    near = measure(GRAPH, ("X",), 0.2001, TRIAL).entropy
    assert abs(at.rate_nats - near.rate_nats) < at.rate_error / 5


def test_an_end_of_the_range_that_is_near_enough_is_taken() -> None:
    assert match_entropy(GRAPH, ("Z", "X"), 0.0, 0.05, TRIAL).alpha == difficulty.ALPHAS[0]


@pytest.mark.parametrize("target", [2.9, 0.001])
def test_an_entropy_out_of_reach_is_said_with_the_range(target: float) -> None:
    with pytest.raises(
        UserError, match=rf"No alpha of Z gives an entropy rate of {target} nats: from alpha = 0.001"
    ):
        match_entropy(GRAPH, ("Z",), target, 0.0001, TRIAL)


def test_an_unknown_node_is_named() -> None:
    with pytest.raises(UserError, match=r"no node 'Z1'; did you mean 'Z'\? \(known: Z, X\)"):
        with_alpha(GRAPH, ["Z1"], 0.5)


def fake_measure(rate: Any) -> Any:
    def measured(graph: Any, nodes: Any, alpha: float, trial: Any) -> Match:
        return Match(alpha, graph, Entropy(rate(alpha), 0.0))

    return measured


def test_an_entropy_that_falls_with_alpha_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        difficulty, "measure", fake_measure(lambda alpha: {1e-3: 0.5, 1e2: 2.0}.get(alpha, 0.1))
    )
    with pytest.raises(
        UserError, match=r"falls from 0.500 to 0.100 nats as alpha grows from 0.001 to 0.3162"
    ):
        match_entropy(GRAPH, ("Z",), 1.0, 0.01, TRIAL)


def test_an_entropy_that_jumps_past_the_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difficulty, "measure", fake_measure(lambda alpha: 0.5 if alpha < 0.7 else 2.0))
    with pytest.raises(
        UserError, match=r"jumps from 0.5000 to 2.0000 nats at alpha = 0.7, past the target 1"
    ):
        match_entropy(GRAPH, ("Z",), 1.0, 0.01, TRIAL)


def test_the_table_has_a_row_an_alpha_and_seed() -> None:
    trials = [Trial(8, 16, kernel_seed=seed, sequence_seed=9) for seed in (0, 1)]
    rows = alpha_table(GRAPH, ("Z", "X"), (0.02, 2.0), trials)
    assert [(row["alpha"], row["kernel_seed"]) for row in rows] == [(0.02, 0), (0.02, 1), (2.0, 0), (2.0, 1)]
    assert max(row["rate_nats"] for row in rows[:2]) < min(row["rate_nats"] for row in rows[2:])
    assert rows[0]["rate_nats"] == measure(GRAPH, ("Z", "X"), 0.02, trials[0]).entropy.rate_nats
