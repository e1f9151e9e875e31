"""Graphs: what they mean, and the sentence that each wrong one gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from small_graphs import make_graph

from apps.gssm.graph import GraphConfig
from apps.gssm.setups import SETUPS
from nanollama.config import Config, dump_config, load_config
from nanollama.errors import ConfigError

X: dict[str, Any] = {"name": "X", "state_dim": 4, "alpha": 0.5, "observed": True}
Z: dict[str, Any] = {"name": "Z", "state_dim": 3, "alpha": 0.5}
Y: dict[str, Any] = {**Z, "name": "Y"}
WRONG: list[tuple[Any, str]] = [
    ([Z], r"no node is observed: exactly one node needs `observed: true`"),
    ([X, {**X, "name": "W"}], r"'X' and 'W' are observed: exactly one"),
    ([], r"nodes"),
    ([X, Z, Z], r"two nodes are called 'Z': names must differ"),
    ([{**X, "parents": ["Zed"]}, {**Z, "name": "Zeb"}], r"unknown parent 'Zed'; did you mean 'Zeb'\?"),
    ([X, {**Z, "parents": ["X"]}], r"node 'Z' has the observed node 'X' as a parent: only latents can be"),
    ([X, {**Z, "parents": ["Y"]}, {**Y, "parents": ["Z"]}], r"parents form a cycle: Z <- Y <- Z; take one"),
    (
        [X, {**Z, "parents": ["Y"]}, {**Y, "parents": ["W"]}, {**Z, "name": "W", "parents": ["Y"]}],
        r"parents form a cycle: Y <- W <- Y",
    ),
    ([X, {**Z, "parents": ["Z"]}], r"node 'Z' is its own parent: a latent sees its own old state without"),
    ([{**X, "parents": ["X"]}], r"node 'X' is its own parent.*the observed node never does"),
    ([{**X, "parents": ["Z", "Z"]}, Z], r"node 'X' lists the parent 'Z' twice: list it once"),
    ([{**X, "mode": "slow"}], r"node 'X' is observed and cannot be slow: it has no own old state"),
    ([X, Y, {**Z, "parents": ["Y"], "mode": "slow"}], r"node 'Z' is slow and cannot have parents"),
    ([{**X, "mode": "quick"}], r"mode: expected one of 'default', 'slow', 'dead', 'context', got 'quick'"),
    ([{**X, "kernel_type": "full_rank"}], r"kernel_type: .*; did you mean 'fullrank'\?"),
    ([{**X, "alpha": 0}], r"alpha: expected a number >= 1e-06"),
    ([{**X, "alpha": "small"}], r"alpha: expected a number"),
    ([{**X, "state_dim": 0}], r"state_dim: expected an integer >= 1"),
    ([{"name": "X", "state_dim": 4, "observed": True}], r"alpha: required key is missing"),
    ([{**X, "parent": ["Z"]}, Z], r"unknown key; did you mean 'parents'\?"),
    (
        [{**X, "state_dim": 5000, "parents": ["Z"]}, {**Z, "state_dim": 5000}],
        r"table of node 'X' would have 5000 x 5000 = 25,000,000",
    ),
    (
        [X, *({**Z, "name": f"Z{i}", "state_dim": 8} for i in range(7))],
        r"have 2,097,152 states together, more than",
    ),
    (
        [*({**Z, "name": f"Z{i}", "state_dim": 1, "parents": [f"Z{i + 1}"]} for i in range(1999)), X],
        r"2000 nodes are too many: write at most 24",
    ),
    ("spars", r"there is no graph 'spars'; did you mean 'sparse'\? \(known: base, sparse, dense"),
    ({"nodes": [X], "n_contexts": 3}, r"n_contexts = 3 has no effect: no node has mode = context"),
    ({"nodes": [{**X, "mode": "context"}], "n_contexts": 0}, r"n_contexts: expected an integer >= 1"),
    (
        {"nodes": [{**X, "mode": "context"}, {**Z, "state_dim": 2000}], "n_contexts": 1000},
        r"the latents, with 1000 contexts, have 2,000,000 states together",
    ),
]


class Holder(Config):
    """A config with a graph in it."""

    graph: GraphConfig = Field(description="Source of the sequences.")


def load(graph: Any, folder: Path) -> GraphConfig:
    """The graph as a config file would give it; JSON is YAML."""
    path = folder / "config.yaml"
    path.write_text(json.dumps({"graph": graph}))
    return load_config(Holder, [str(path)]).graph


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_a_wrong_graph_is_refused_in_a_sentence(wrong: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        load({"nodes": wrong} if isinstance(wrong, list) else wrong, tmp_path)
    assert "config.yaml:1" in str(error.value)


@pytest.mark.parametrize("name", SETUPS)
def test_a_graph_can_be_named_and_is_written_out(name: str, tmp_path: Path) -> None:
    graph = load(name, tmp_path)
    assert graph == GraphConfig.model_validate(SETUPS[name])
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(Holder(graph=graph)))
    assert "state_dim" in path.read_text()
    assert load_config(Holder, [str(path)]).graph == graph


def test_the_published_setups_are_what_they_were() -> None:
    base, sparse, dense, low = (
        GraphConfig.model_validate(name) for name in ("base", "sparse", "dense", "low_entropy")
    )
    assert (base.n_states, base.vocab_size) == (256, 32)
    assert all((graph.n_states, graph.vocab_size) == (256, 32) for graph in (sparse, dense, low))
    assert [len(node.parents) for node in sparse.order] == [0, 0, 0, 0, 4]
    assert [len(node.parents) for node in dense.order] == [0, 1, 2, 3, 4]
    assert [node.alpha for node in low.latents] == [0.01] * 4


def test_parents_come_first_and_the_observed_node_last_in_any_order_of_writing() -> None:
    graph = make_graph(
        {**X, "parents": ("Y",)}, {**Y, "parents": ("Z", "W")}, {**Z, "name": "W", "parents": ("Z",)}, Z
    )
    assert [node.name for node in graph.order] == ["Z", "W", "Y", "X"]
    assert [node.name for node in graph.inputs(graph.node("Y"))] == ["Y", "Z", "W"], "its old state first"
    assert [node.name for node in graph.inputs(graph.observed)] == ["Y"]


def test_only_contexts_without_a_library_have_no_floor() -> None:
    context = {**Z, "mode": "context"}
    assert make_graph(X, Z).has_floor
    assert make_graph(X, context, n_contexts=2).has_floor
    assert not make_graph(X, context).has_floor
