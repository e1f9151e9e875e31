"""The tables of a source, laid out as the beliefs they are multiplied with.

A belief has the axes (context, latents in order, sequences); axes before a latent are those its parents are
among, so its table has a size of 1 on the others and no belief is ever turned around.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from apps.gssm.graph import NodeConfig
from apps.gssm.kernels import Kernels

CONTEXT = "(context)"
"""Name of the axis of contexts."""


@dataclass(frozen=True)
class Move:
    """How one latent moves.

    Args:
        log_table: (C or 1, D_1 or 1, ..., D_j new states, D_j old states).
        table: its exponential.
        shape: (C, D_1, ..., D_j, product of later latents), the belief seen by this latent.
    """

    log_table: np.ndarray
    table: np.ndarray
    shape: tuple[int, ...]


class Tables:
    """Transitions and emissions of a source whose kernels are all drawn."""

    def __init__(self, kernels: Kernels) -> None:
        graph = kernels.graph
        self.names = (CONTEXT, *(node.name for node in graph.latents))
        """Of the belief's axes."""
        self._has_library = graph.n_contexts is not None
        self.n_contexts = graph.n_contexts or 1
        self.shape = (self.n_contexts, *(node.state_dim for node in graph.latents))
        self.n_states, self.n_symbols = math.prod(self.shape), graph.vocab_size
        self.moves = tuple(self._move(kernels, node) for node in graph.latents)
        emission = self._laid_out(kernels, graph.observed)
        self.seen = emission.shape[:-1]
        """The belief's axes that the observed node sees; 1 elsewhere."""
        self.log_emission = np.ascontiguousarray(emission.reshape(-1, self.n_symbols))
        """log p(symbol | seen states): (product of `seen`, V)."""
        self.emission = np.exp(self.log_emission)

    @property
    def sizes(self) -> dict[str, int]:
        """States by name, of the latents and, where there is a library, of the context."""
        sizes = dict(zip(self.names, self.shape, strict=True))
        if not self._has_library:
            del sizes[CONTEXT]
        return sizes

    @property
    def unseen_axes(self) -> tuple[int, ...]:
        """Axes of the belief over which the observed node does not look."""
        return tuple(axis for axis, size in enumerate(self.seen) if size != self.shape[axis])

    def _move(self, kernels: Kernels, node: NodeConfig) -> Move:
        axis = self.names.index(node.name)
        laid_out = self._laid_out(kernels, node)  # (C, D_1, ..., D_j old, 1, ..., D_j new)
        log_table = laid_out.reshape(*laid_out.shape[: axis + 1], node.state_dim).swapaxes(-1, -2)
        later = math.prod(self.shape[axis + 1 :])
        table = np.ascontiguousarray(np.exp(log_table))
        return Move(log_table, table, (*self.shape[: axis + 1], later))

    def _laid_out(self, kernels: Kernels, node: NodeConfig) -> np.ndarray:
        """A node's log table with its inputs on the belief's axes and its new state last."""
        table = kernels.log_table(node)  # (C or 1, inputs ..., D)
        names = [each.name for each in kernels.graph.inputs(node)]
        axes = sorted(range(len(names)), key=lambda index: self.names.index(names[index]))
        turned = table.transpose(0, *(1 + axis for axis in axes), len(names) + 1)
        sizes = [
            size if name in names else 1 for name, size in zip(self.names[1:], self.shape[1:], strict=True)
        ]
        return turned.reshape(len(table), *sizes, node.state_dim)
