"""Streams: batches as pure functions of (seed, step, rank). There is no iterator state to save or to lose.

The examples of a source are visited in epochs; each epoch is a permutation keyed by (seed, epoch). Row ``g``
of a run (``g = step * batch_size + row``) is a fixed example, so any number of ranks sees the same global
batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from nanollama.data.batch import Batch, collate
from nanollama.data.batching import Batching

N_POOLED_BATCHES = 16  # a bucketed stream sorts the examples of so many consecutive batches by length


class Stream(Protocol):
    """Anything that makes the batch of a step."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Rows ``rank, rank + world_size, ...`` of the global batch of a step; no state, no surprise."""
        ...


class Source(Protocol):
    """Documents of known number and length, by index."""

    def __len__(self) -> int: ...

    def lengths(self) -> np.ndarray:
        """Tokens of each document, shape (n,)."""
        ...

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a document and which of them carry loss, both of shape (length,)."""
        ...


class EpochOrder:
    """The order in which examples are visited: a fresh permutation each epoch, keyed by (seed, epoch)."""

    def __init__(self, n_examples: int, seed: int) -> None:
        if n_examples < 1:
            raise ValueError("A source needs at least one example.")
        self.n_examples = n_examples
        self.seed = seed
        # Bound to the instance: a batch touches at most two epochs, unless it is longer than an epoch.
        self._permutation = lru_cache(maxsize=4)(self._draw)

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.n_examples)

    def examples(self, start: int, stop: int) -> np.ndarray:
        """The examples visited from the ``start``-th to before the ``stop``-th, counted over all epochs."""
        visits = np.arange(start, stop)
        epochs, offsets = visits // self.n_examples, visits % self.n_examples
        result = np.empty(len(visits), dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = self._permutation(int(epoch))[offsets[here]]
        return result


def quotas(weights: Sequence[float], n_rows: int) -> list[int]:
    """How many of the first rows of a run are of each source.

    A pure function of their number, and none of the quotas ever falls when a row is added: each source takes
    its share of the rows that those before it have left. Exact to within one row for two sources, to within
    as many rows as there are sources for more.
    """
    counts, left = [], n_rows
    for source, weight in enumerate(weights):
        counts.append(int(weight / sum(weights[source:]) * left))
        left -= counts[-1]
    return counts


class DocumentStream:
    """Batches of documents from one or several weighted sources.

    Args:
        sources: where documents come from.
        weights: share of rows of each source, any positive scale; see `quotas`.
        batch_size: documents of a global batch.
        seed: of the epoch permutations; source ``i`` uses ``seed + i``.
        batching: ``trimmed`` pads a batch to its longest document; ``bucketed`` also groups documents of
            like length (over 16 batches), which saves padding and makes batches less alike; ``packed`` puts
            several documents into rows of ``row_len`` inputs, with no attention between them.
        row_len: inputs a row when packed; the longest document when ``None``.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch_size: int,
        seed: int,
        weights: Sequence[float] | None = None,
        batching: Batching = "trimmed",
        row_len: int | None = None,
    ) -> None:
        shares = [1.0] * len(sources) if weights is None else list(weights)
        if len(shares) != len(sources) or not sources or min(shares) <= 0:
            raise ValueError(
                f"Expected one positive weight for each of {len(sources)} sources, got {shares}."
            )
        self.sources = list(sources)
        self.batch_size = batch_size
        self.batching = batching
        longest = max(int(source.lengths().max()) for source in sources) - 1
        self.row_len = (row_len or longest) if batching == "packed" else None
        self._shares = shares
        self._orders = [EpochOrder(len(source), seed + index) for index, source in enumerate(sources)]
        self._pool = lru_cache(maxsize=2)(self._sorted_pool)
        self._seed = seed

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `Stream.batch`."""
        rows = self.rows(step)[rank::world_size]
        documents = [self.sources[source].document(index) for source, index in rows]
        return collate([ids for ids, _ in documents], [mask for _, mask in documents], self.row_len)

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(source, example) of every row of the global batch of a step."""
        if self.batching != "bucketed":
            return self._visits(step * self.batch_size, (step + 1) * self.batch_size)
        return self._pool(step // N_POOLED_BATCHES)[step % N_POOLED_BATCHES]

    def _visits(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Rows ``start`` to ``stop`` of the run, source by source, each with its quota."""
        before, after = (quotas(self._shares, row) for row in (start, stop))
        rows = []
        for source, (order, first, last) in enumerate(zip(self._orders, before, after, strict=True)):
            rows += [(source, int(index)) for index in order.examples(first, last)]
        return rows

    def _sorted_pool(self, pool: int) -> list[list[tuple[int, int]]]:
        """Sixteen batches, each of documents of like length, in random order."""
        size = self.batch_size * N_POOLED_BATCHES
        rows = self._visits(pool * size, (pool + 1) * size)
        lengths = np.array([self.sources[source].lengths()[index] for source, index in rows])
        ranked = np.argsort(lengths, kind="stable")
        batches = [
            [rows[position] for position in ranked[start : start + self.batch_size]]
            for start in range(0, size, self.batch_size)
        ]
        order = np.random.Generator(np.random.Philox(key=[self._seed, pool])).permutation(N_POOLED_BATCHES)
        return [batches[position] for position in order]
