"""Small random graphs, and everything about them by summing over all hidden paths, one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np

from apps.gssm.graph import GraphConfig, NodeConfig
from apps.gssm.kernels import Kernels

Path = tuple[tuple[int, ...], ...]


def make_graph(*nodes: dict[str, object], n_contexts: int | None = None) -> GraphConfig:
    """The graph of nodes written as in a config."""
    return GraphConfig.model_validate({"nodes": nodes, "n_contexts": n_contexts})


def random_graph(seed: int) -> GraphConfig:
    """A graph of 0 to 3 latents, of any modes and kernel types, its nodes in any order."""
    rng = np.random.default_rng(seed)
    names = [f"Z{index}" for index in range(rng.integers(0, 4))]
    nodes = []
    for index, name in enumerate([*names, "X"]):
        parents = [other for other in names[:index] if rng.random() < 0.6]
        modes = ["default", "dead", "context", *(["slow"] if not parents and name != "X" else [])]
        nodes.append(
            {
                "name": name,
                "state_dim": int(rng.integers(1, 3 if len(names) == 3 else 4)) + (name == "X"),
                "alpha": float(10 ** rng.uniform(-2, 0.5)),
                "parents": tuple(rng.permutation(parents).tolist()),
                "mode": str(rng.choice(modes)),
                "kernel_type": str(rng.choice(["product", "fullrank"])),
                "observed": name == "X",
            }
        )
    has_contexts = any(node["mode"] == "context" for node in nodes)
    order = rng.permutation(len(nodes))
    return make_graph(
        *(nodes[index] for index in order), n_contexts=int(rng.integers(1, 4)) if has_contexts else None
    )


class BruteForce:
    """Log probabilities straight from the matrices of the kernels."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels, self.graph = kernels, kernels.graph
        self.names = [node.name for node in self.graph.nodes if not node.observed]
        self.states = list(
            itertools.product(*(range(self.graph.node(name).state_dim) for name in self.names))
        )
        self.n_contexts = self.graph.n_contexts or 1

    def log_p(self, node: NodeConfig, context: int, new: int, old: int, states: dict[str, int]) -> float:
        """log p(new state of a node | its old one, its parents' new ones)."""
        inputs = [] if node.observed else [(old, node.state_dim)]
        inputs += [(states[name], self.graph.node(name).state_dim) for name in node.parents]
        matrices = self.kernels.log_matrices[node.name]
        kernel = context if node.mode == "context" else 0
        if node.kernel_type == "fullrank" or not inputs:
            row = 0
            for state, size in inputs:
                row = row * size + state
            return float(matrices[0][kernel, row, new])
        logits = sum(matrix[kernel, state] for matrix, (state, _) in zip(matrices, inputs, strict=True))
        return float(logits[new] - np.logaddexp.reduce(logits))

    def log_move(self, context: int, old: tuple[int, ...], new: tuple[int, ...]) -> float:
        """log p(new states of all latents | old states)."""
        states = dict(zip(self.names, new, strict=True))
        return sum(
            self.log_p(self.graph.node(name), context, new[index], old[index], states)
            for index, name in enumerate(self.names)
        )

    def log_emit(self, context: int, hidden: tuple[int, ...], symbol: int) -> float:
        """log p(symbol | states of all latents)."""
        states = dict(zip(self.names, hidden, strict=True))
        return self.log_p(self.graph.observed, context, symbol, 0, states)

    def paths(self, symbols: np.ndarray) -> dict[tuple[int, Path], float]:
        """log p(context, hidden path, symbols (T,)) of every context and path."""
        moves = {
            (context, old, new): self.log_move(context, old, new)
            for context in range(self.n_contexts)
            for old in self.states
            for new in self.states
        }
        start = tuple(0 for _ in self.names)
        found = {}
        for context in range(self.n_contexts):
            for path in itertools.product(self.states, repeat=len(symbols)):
                steps = zip((start, *path), path, strict=False)
                total = -math.log(self.n_contexts) + sum(moves[context, old, new] for old, new in steps)
                emitted = zip(path, symbols, strict=True)
                found[context, path] = total + sum(self.log_emit(context, *pair) for pair in emitted)
        return found

    def log_likelihood(self, symbols: np.ndarray) -> float:
        """log p(symbols (T,))."""
        return float(np.logaddexp.reduce(list(self.paths(symbols).values())))

    def posterior(self, symbols: np.ndarray, name: str) -> np.ndarray:
        """p(last state of a latent | symbols (T,))."""
        axis = self.names.index(name)
        by_state: list[list[float]] = [[] for _ in range(self.graph.node(name).state_dim)]
        for (_, path), log_p in self.paths(symbols).items():
            by_state[path[-1][axis]].append(log_p)
        logs = np.array([np.logaddexp.reduce(each) for each in by_state])
        return np.exp(logs - np.logaddexp.reduce(logs))
