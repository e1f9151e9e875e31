"""Batches of rows of tokens: the next token is asked for everywhere, or masked ones are.

Of the row 3 1 4 1 a model reads 3 1 4 and predicts 1 4 1. Shapes: B rows, T tokens.
"""

from __future__ import annotations

import numpy as np
import torch

from nanollama.data.batch import Batch
from nanollama.data.masking import Masker
from nanollama.data.stream import EpochOrder


class RowStream:
    """Rows in epochs, each a permutation keyed by (seed, epoch).

    Args:
        rows: (n, T) token ids.
        batch_size: rows of a global batch.
        seed: of the permutations.
        masker: draws the masks; None asks for the next token everywhere.
        first_step: batch that is the first here: a run that goes on from another sees what that would have
            seen.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        masker: Masker | None = None,
        first_step: int = 0,
    ) -> None:
        self.rows, self.batch_size, self.masker, self.first_step = rows, batch_size, masker, first_step
        self._order = EpochOrder(len(rows), seed)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.data.stream.Stream.batch`."""
        first = (step + self.first_step) * self.batch_size
        visits = np.arange(first, first + self.batch_size)[rank::world_size]
        numbers = self._order.examples(first, first + self.batch_size)[rank::world_size]
        rows = self.rows[numbers]
        if self.masker is None:
            return next_token_batch(rows)
        return self.masker.batch(rows, visits if self.masker.config.dynamic else numbers)


class RowSource:
    """Rows (n, T) as documents of a stream that mixes sources; all but the first token carry loss."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._mask = np.arange(rows.shape[1]) > 0

    def __len__(self) -> int:
        return len(self._rows)

    def lengths(self) -> np.ndarray:
        """See `nanollama.data.stream.Source`."""
        return np.full(len(self._rows), self._rows.shape[1])

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See `nanollama.data.stream.Source`."""
        return self._rows[index].astype(np.int64), self._mask


def next_token_batch(rows: np.ndarray) -> Batch:
    """Rows (B, T) as inputs and targets (B, T - 1) of a model that reads from first to last."""
    ids = torch.from_numpy(rows.astype(np.int64))
    targets = ids[:, 1:].contiguous()
    return Batch(ids[:, :-1].contiguous(), targets, None, None, targets.numel(), targets.numel(), len(ids))
