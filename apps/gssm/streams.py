"""Batches of a source's sequences: fresh ones for every step, or epochs over those that are listed.

Of the symbols 3 1 4 1 a model reads 3 1 4 and predicts 1 4 1; every position carries loss.
"""

from __future__ import annotations

import numpy as np
import torch

from apps.gssm.source import Source
from nanollama.data.batch import Batch
from nanollama.data.stream import EpochOrder


def make_batch(symbols: np.ndarray) -> Batch:
    """Sequences (B, T + 1) of any integer type as a batch of B rows of T tokens."""
    tokens = torch.from_numpy(symbols.astype(np.int64))
    n_rows, n_targets = tokens.shape[0], tokens.shape[1] - 1
    return Batch(
        input_ids=tokens[:, :-1].contiguous(),
        targets=tokens[:, 1:].contiguous(),
        query_positions=None,
        documents=None,
        n_loss_tokens=n_rows * n_targets,
        n_tokens=n_rows * n_targets,
        n_examples=n_rows,
    )


class FreshStream:
    """Sequences that no step before has had: row ``g`` of a run is sequence number ``g``."""

    def __init__(self, source: Source, batch_size: int) -> None:
        self.source = source
        self.batch_size = batch_size

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.data.stream.Stream`; a rank draws its own rows alone."""
        first = step * self.batch_size
        return make_batch(self.source.draw(range(first + rank, first + self.batch_size, world_size)))


class ListedStream:
    """Epochs over listed sequences (n, T + 1), each in an order of its own."""

    def __init__(self, sequences: np.ndarray, batch_size: int, seed: int) -> None:
        self.sequences = sequences
        self.batch_size = batch_size
        self.order = EpochOrder(len(sequences), seed)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.data.stream.Stream`."""
        rows = self.order.examples(step * self.batch_size, (step + 1) * self.batch_size)
        return make_batch(self.sequences[rows[rank::world_size]])
