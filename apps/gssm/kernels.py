"""The kernels of a graph: what each node moves to, given what it sees; a pure function of (graph, seed).

Rows are drawn from Dirichlet(alpha, ..., alpha) and kept as logarithms: at alpha = 0.02 the smaller
probabilities of a row are far below the smallest float64. A draw of a gamma variable of shape alpha is

    log G(alpha) = log G(alpha + 1) + log(U) / alpha

(Marsaglia and Tsang, 2000, section 6), the first term by its quantile function; a row is log G - log sum
exp log G.

Shapes: C kernels of a node (1, or the size of the library of contexts), R rows, D states of the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, log_softmax

from apps.gssm.graph import GraphConfig, NodeConfig
from nanollama.seeds import named_seed


@dataclass(frozen=True)
class Kernels:
    """The kernels of all nodes of a graph.

    Args:
        graph: whose they are.
        log_matrices: by node, its matrices (C, R, D) of log probabilities, one a group of inputs (see
            `groups`); contexts that are drawn afresh for every sequence have none here.
    """

    graph: GraphConfig
    log_matrices: Mapping[str, tuple[np.ndarray, ...]]

    def log_table(self, node: NodeConfig) -> np.ndarray:
        """log p(new state | inputs): (C, states of each input ..., D), inputs as in `GraphConfig.inputs`."""
        names = [each.name for each in self.graph.inputs(node)]
        sizes = [each.state_dim for each in self.graph.inputs(node)]
        total = np.zeros((1, *[1] * len(sizes), 1))
        for group, matrix in zip(groups(self.graph, node), self.log_matrices[node.name], strict=True):
            axes = [size if name in group else 1 for name, size in zip(names, sizes, strict=True)]
            total = total + matrix.reshape(len(matrix), *axes, node.state_dim)
        return total if node.kernel_type == "fullrank" else log_softmax(total, axis=-1)


def groups(graph: GraphConfig, node: NodeConfig) -> tuple[tuple[str, ...], ...]:
    """Names of the inputs that share a matrix: each alone (product), all together (fullrank).

    A node that sees nothing has one matrix of one row.
    """
    names = tuple(each.name for each in graph.inputs(node))
    return (names,) if node.kernel_type == "fullrank" or not names else tuple((name,) for name in names)


def draw_kernels(graph: GraphConfig, seed: int) -> Kernels:
    """The kernels of a graph, each node's from a stream of its own: adding a node leaves the others alone."""
    drawn = {}
    for node in graph.nodes:
        if node.mode != "context" or graph.n_contexts is not None:
            rng = np.random.default_rng(named_seed(seed, f"kernels/{node.name}"))
            drawn[node.name] = draw_matrices(graph, node, rng, graph.n_tables(node))
    return Kernels(graph, drawn)


def draw_matrices(
    graph: GraphConfig, node: NodeConfig, rng: np.random.Generator, n_kernels: int
) -> tuple[np.ndarray, ...]:
    """The matrices (n_kernels, R, D) of one node, one a group of inputs."""
    matrices = []
    for group in groups(graph, node):
        n_rows = int(np.prod([graph.node(name).state_dim for name in group], dtype=np.int64))
        rows = log_dirichlet(rng, node.alpha, (n_kernels, n_rows, node.state_dim))
        if node.mode == "slow":
            swap_largest(rows, np.arange(n_rows))
        elif node.mode == "dead":
            swap_largest(rows, np.zeros(n_rows, dtype=np.int64))
        matrices.append(rows)
    return tuple(matrices)


def swap_largest(rows: np.ndarray, columns: np.ndarray) -> None:
    """Exchange, in place, the largest entry of each row (..., R, D) with the entry in its column (R,)."""
    flat = rows.reshape(-1, rows.shape[-1])
    every = np.arange(len(flat))
    target = np.tile(columns, len(flat) // len(columns))
    largest = flat.argmax(axis=1)
    flat[every, largest], flat[every, target] = flat[every, target], flat[every, largest]


def log_dirichlet(rng: np.random.Generator, alpha: float, shape: tuple[int, ...]) -> np.ndarray:
    """Log probabilities of Dirichlet(alpha, ..., alpha), one draw along the last axis of `shape`.

    The same generator gives coupled draws for different alphas: each entry is a quantile at the same level,
    so rows change continuously with alpha.
    """
    log_uniform, level = np.log1p(-rng.random(shape)), rng.random(shape)
    with np.errstate(divide="ignore"):  # a level of 0
        log_gamma = np.log(gammaincinv(alpha + 1.0, level))
    log_probabilities: np.ndarray = log_softmax(log_gamma + log_uniform / alpha, axis=-1)
    return log_probabilities
