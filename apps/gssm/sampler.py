"""Sequences of a source, each a pure function of (kernels, seed, its number), whoever draws it.

The random numbers of a node come from a Philox stream (Salmon et al., 2011) whose key is the seed and the
node's name; words 64 t + l from the counter b * 2^64 on are, for sequence 64 b + l, its two numbers for steps
2t and 2t + 1. So sequence i is the same in any batch, on any rank, and a shorter one is its beginning.

A node's states are drawn for all times before those of its children, so that only its own old state is left
for the loop over time; the observed node, which sees no old state, needs no loop. States are looked up in
`apps.gssm.alias`.

Shapes: n sequences, T steps; inside the steps come first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from apps.gssm.alias import N_BITS, AliasTable
from apps.gssm.graph import NodeConfig
from apps.gssm.kernels import Kernels, draw_matrices, groups
from nanollama.seeds import named_seed

N_BLOCK = 1 << 15  # draws that are looked up at once, so that they stay in the cache of a core
N_LANES = 64  # neighbouring sequences whose random numbers are drawn in one go
N_WORDS = 4  # that a value of the counter of Philox gives


@dataclass(frozen=True)
class Sample:
    """Sequences and what lies behind them.

    Args:
        symbols: (n, T) int64, states of the observed node.
        latents: (n, T) int32 by name of the node, views that are not contiguous.
        contexts: (n,) int64, the entry of the library each sequence has its kernels from; None where there
            is no library.
    """

    symbols: np.ndarray
    latents: Mapping[str, np.ndarray]
    contexts: np.ndarray | None


class Sampler:
    """Draws the sequences of one seed from the kernels of a source.

    Args:
        kernels: of the source.
        seed: of the sequences; another seed gives other sequences of the same source.
    """

    def __init__(self, kernels: Kernels, seed: int) -> None:
        self.graph, self.seed = kernels.graph, seed
        self._tables = {
            node.name: AliasTable(np.exp(kernels.log_table(node)).reshape(-1, node.state_dim))
            for node in self.graph.nodes
            if node.name in kernels.log_matrices
        }

    def sample(self, numbers: range, seq_len: int) -> Sample:
        """The sequences of these numbers, such as ``range(rank, 128, world_size)``, in their order."""
        n, n_contexts = len(numbers), self.graph.n_contexts
        contexts = None
        if n_contexts is not None:
            drawn = _Numbers(numbers, 1).draw(named_seed(self.seed, "contexts"))[0]
            contexts = (drawn * n_contexts) >> N_BITS
        source = _Numbers(numbers, seq_len)
        paths: dict[str, np.ndarray] = {}
        for node in self.graph.order:
            path = np.empty((seq_len, n), dtype=np.int32)
            draws = source.draw(named_seed(self.seed, f"states/{node.name}"))
            if node.name in self._tables:
                self._look_up(node, draws, paths, contexts, path)
            else:
                self._draw_afresh(node, draws, paths, numbers, path)
            paths[node.name] = path
        symbols = np.ascontiguousarray(paths.pop(self.graph.observed.name).T, dtype=np.int64)
        return Sample(symbols, {name: path.T for name, path in paths.items()}, contexts)

    def _look_up(
        self,
        node: NodeConfig,
        draws: np.ndarray,
        paths: Mapping[str, np.ndarray],
        contexts: np.ndarray | None,
        path: np.ndarray,
    ) -> None:
        """Write the states (T, n) of a node whose kernels come with the source."""
        table = self._tables[node.name]
        parents = [self.graph.node(name) for name in node.parents]
        n_parent_states = math.prod(parent.state_dim for parent in parents)
        n_rows = n_parent_states * (1 if node.observed else node.state_dim)
        old = np.zeros(path.shape[1], dtype=np.int32)
        width = max(N_BLOCK // path.shape[1], 1)
        for start in range(0, len(path), width):
            block = slice(start, start + width)
            out = path[block]
            rows = np.zeros(out.shape, dtype=np.int64)
            if contexts is not None and node.mode == "context":
                rows += contexts * n_rows
            stride = n_parent_states
            for parent in parents:
                stride //= parent.state_dim
                rows += paths[parent.name][block] * stride
            if node.observed:
                table.draw(rows, draws[block], out)
            else:
                table.walk(old, n_parent_states, rows, draws[block], out)
            old = out[-1]

    def _draw_afresh(
        self,
        node: NodeConfig,
        draws: np.ndarray,
        paths: Mapping[str, np.ndarray],
        numbers: range,
        path: np.ndarray,
    ) -> None:
        """Write the states (T, n) of a node with other kernels in every sequence."""
        key = named_seed(self.seed, f"kernels/{node.name}")
        drawn = []
        for number in numbers:
            rng = np.random.Generator(np.random.Philox(key=key, counter=number << 128))
            drawn.append(draw_matrices(self.graph, node, rng, 1))
        matrices = [np.concatenate(each) for each in zip(*drawn, strict=True)]  # (n, R, D), one a group
        every = np.arange(len(numbers))
        old = np.zeros(len(numbers), dtype=np.int64)
        shares = draws * 2.0**-N_BITS
        for t, new in enumerate(path):
            states = {name: paths[name][t] for name in node.parents} | {node.name: old}
            logits = np.zeros((len(numbers), node.state_dim))
            for group, matrix in zip(groups(self.graph, node), matrices, strict=True):
                row = np.zeros(len(numbers), dtype=np.int64)
                for name in group:
                    row = row * self.graph.node(name).state_dim + states[name]
                logits += matrix[every, row]
            cumulative = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
            reached = cumulative > (shares[t] * cumulative[:, -1])[:, None]
            new[:] = reached.argmax(axis=1)
            old = new


class _Numbers:
    """Numbers of 32 bits for the steps of some sequences, one purpose after another in the same memory."""

    def __init__(self, numbers: range, n_steps: int) -> None:
        self._first, n_pairs = numbers[0] // N_LANES, (n_steps + 1) // 2
        n_blocks = numbers[-1] // N_LANES - self._first + 1
        self._words = np.empty((n_pairs, n_blocks, N_LANES), dtype=np.uint64)
        in_order = self._words.reshape(n_pairs, n_blocks * N_LANES)
        self._wanted = in_order[:, numbers[0] % N_LANES :: numbers.step][:, : len(numbers)]
        self._halves = np.empty((2 * n_pairs, len(numbers)), dtype=np.uint64)
        self._found = self._halves.view(np.int64)[:n_steps]

    def draw(self, key: int) -> np.ndarray:
        """Those of a purpose, (n_steps, n) int64, until the next call."""
        stream = np.random.Philox(key=key, counter=self._first << 64)
        for block in self._words.swapaxes(0, 1):
            block[:] = stream.random_raw(block.size).reshape(block.shape)
            stream.advance((1 << 64) - block.size // N_WORDS)
        np.right_shift(self._wanted, np.uint64(N_BITS), out=self._halves[0::2])
        np.bitwise_and(self._wanted, np.uint64((1 << N_BITS) - 1), out=self._halves[1::2])
        return self._found
