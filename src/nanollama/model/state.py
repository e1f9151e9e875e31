"""What a model remembers of the tokens it has read, so that each new token costs one step.

Shapes: B rows (dialogs side by side), T new tokens.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

L = TypeVar("L", bound="LayerState")


@dataclass
class LayerState:
    """What one layer remembers: a dataclass of tensors whose first dimension is the row.

    A mixer changes them in place: parts of a state share its memory.
    """

    def part(self: L, rows: slice) -> L:
        """Some of the rows, in the same memory."""
        return replace(self, **{name: stored[rows] for name, stored in self.tensors().items()})

    def move(self, to: Tensor, of: Tensor, n_kept: int, longest: int) -> None:
        """Put rows ``of`` into the places ``to``, then drop all but the first ``n_kept`` rows.

        Args:
            longest: most tokens that a row has read.
        """
        for name, stored in self.tensors().items():
            stored[to] = stored[of]
            setattr(self, name, stored[:n_kept])

    def tensors(self) -> dict[str, Tensor]:
        """All of them, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class DecodingState:
    """What the layers of a model remember; every row stands at its own position.

    Attributes:
        layers: one state a layer.
        capacity: tokens a row can hold.
        lengths: (B,) int64, tokens each row has read.
        longest: max of lengths, kept beside it so that reading it does not wait for a device.
        n_new: (B,) int64, how many of the tokens that are read next count, where a row's are padded behind;
            None: all count.
    """

    def __init__(self, layers: list[LayerState], n_rows: int, capacity: int, device: torch.device) -> None:
        self.layers = layers
        self.capacity = capacity
        self.lengths = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self.longest = 0
        self.n_new: Tensor | None = None

    def positions(self, n_tokens: int) -> Tensor:
        """(B, T) positions that the next tokens of each row will take.

        Raises:
            ValueError: there is no room for them.
        """
        if self.longest + n_tokens > self.capacity:
            raise ValueError(
                f"The state holds {self.capacity} tokens a row; {self.longest + n_tokens} asked for."
            )
        return self.lengths[:, None] + torch.arange(n_tokens, device=self.lengths.device)

    def part(self, rows: slice, n_new: Tensor | None = None) -> DecodingState:
        """Some of the rows, in the same memory, about to read; the whole has yet to `advance` by it.

        Args:
            rows: which.
            n_new: see the attribute.
        """
        part = copy.copy(self)
        part.layers = [layer.part(rows) for layer in self.layers]
        part.lengths, part.n_new = self.lengths[rows], n_new
        return part

    def advance(self, n_new: Tensor, longest: int) -> None:
        """Move rows on by (B,) tokens, which makes the longest so long."""
        self.lengths = self.lengths + n_new
        self.longest = longest

    def keep(self, kept: Tensor) -> Tensor:
        """Let finished rows leave the batch; the last of those kept move into their places.

        Args:
            kept: (B,) bool, the rows that stay.

        Returns:
            (n,) int64, for each place from now on, the row that it held or now gets.
        """
        n_kept = int(kept.sum())
        rows = torch.arange(n_kept, device=kept.device)
        freed = (~kept[:n_kept]).nonzero().flatten()
        moving = kept[n_kept:].nonzero().flatten() + n_kept
        rows[freed] = moving
        for layer in self.layers:
            layer.move(freed, moving, n_kept, self.longest)
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max()) if n_kept else 0
        return rows
