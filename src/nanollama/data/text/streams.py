"""Batches of rows of tokens, with masks to be filled in, or with the next token asked for everywhere.

Shapes: B rows, T tokens, M masked positions of a row.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from nanollama.config import Config
from nanollama.data.batch import IGNORE, Batch
from nanollama.data.stream import EpochOrder
from nanollama.seeds import named_seed


class MaskingConfig(Config):
    """Which tokens a model has to fill in."""

    rate: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the tokens of a row, special ones apart."
    )
    shown_as: Literal["mask", "mixed"] = Field(
        default="mixed",
        description="What stands in their place: the mask, or, as in BERT, that for 80 %, any token for 10 % "
        "and themselves for 10 %.",
    )
    dynamic: bool = Field(
        default=True, description="Draw them anew each time a row is visited; else once a row."
    )


class Masker:
    """Draws masks: a pure function of a number, which is that of a row or of a visit to one.

    Args:
        config: how many tokens, and what is shown instead.
        vocab_size: number of token ids.
        mask: the id shown instead.
        special: ids that are never asked for.
        seed: of the draws.
    """

    def __init__(
        self, config: MaskingConfig, vocab_size: int, mask: int, special: np.ndarray, seed: int
    ) -> None:
        self.config, self.mask, self.seed = config, mask, seed
        self.is_ordinary = ~np.isin(np.arange(vocab_size), special)
        self.ordinary = np.flatnonzero(self.is_ordinary)

    def positions(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Positions to be masked, in order: the share of those that may be, rounded, at least one."""
        able = np.flatnonzero(self.is_ordinary[row])
        n_masked = max(round(self.config.rate * len(able)), min(1, len(able)))
        return np.sort(rng.permutation(able)[:n_masked])

    def batch(self, rows: np.ndarray, numbers: np.ndarray) -> Batch:
        """Rows (B, T) with masks, each drawn by its number (B,)."""
        inputs = rows.astype(np.int64)
        drawn = []
        for row, number in zip(inputs, numbers, strict=True):
            rng = np.random.Generator(np.random.Philox(key=[self.seed, int(number)]))
            positions = self.positions(row, rng)
            targets = row[positions]
            kinds, others = rng.random(len(positions)), rng.choice(self.ordinary, len(positions))
            if self.config.shown_as == "mask":
                row[positions] = self.mask
            else:
                row[positions] = np.where(kinds < 0.8, self.mask, np.where(kinds < 0.9, others, targets))
            drawn.append((positions, targets))
        width = max(1, *(len(positions) for positions, _ in drawn)) if drawn else 1
        targets = np.full((len(rows), width), IGNORE, dtype=np.int64)
        queries = np.zeros((len(rows), width), dtype=np.int64)
        for index, (positions, wanted) in enumerate(drawn):
            targets[index, : len(wanted)] = wanted
            queries[index, : len(positions)] = positions
        return Batch(
            input_ids=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            query_positions=torch.from_numpy(queries),
            documents=None,
            n_loss_tokens=int((targets != IGNORE).sum()),
            n_tokens=inputs.size,
            n_examples=len(rows),
            sees_all=True,
        )


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
        self._order = EpochOrder(len(rows), named_seed(seed, "rows"))

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
