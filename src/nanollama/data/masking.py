"""Tokens of rows masked, to be filled in. Shapes: B rows, T tokens."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from nanollama.config import Config
from nanollama.data.batch import IGNORE, Batch


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
