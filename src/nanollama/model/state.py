"""What a model remembers of the tokens it has read, so that each new token costs one step.

Shapes: B lanes (dialogs side by side), T new tokens.
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
    """What one layer remembers: a dataclass of tensors whose first dimension is the lane.

    A mixer changes them in place: parts of a state share its memory.
    """

    def part(self: L, lanes: slice) -> L:
        """Some of the lanes, in the same memory."""
        return replace(self, **{name: stored[lanes] for name, stored in self.tensors().items()})

    def move(self, to: Tensor, of: Tensor, n_kept: int, longest: int) -> None:
        """Put lanes ``of`` into the places ``to``, then forget all but the first ``n_kept`` lanes.

        Args:
            longest: most tokens that a lane has read.
        """
        for name, stored in self.tensors().items():
            stored[to] = stored[of]
            setattr(self, name, stored[:n_kept])

    def tensors(self) -> dict[str, Tensor]:
        """All of them, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class DecodingState:
    """What the layers of a model remember; every lane stands at its own position.

    Attributes:
        layers: one state a layer.
        capacity: tokens a lane can hold.
        lengths: (B,) int64, tokens each lane has read.
        longest: max of lengths, kept beside it so that reading it does not wait for a device.
        n_new: (B,) int64, how many of the tokens that are read next count, where a lane's are padded behind;
            None: all count.
    """

    def __init__(self, layers: list[LayerState], n_lanes: int, capacity: int, device: torch.device) -> None:
        self.layers = layers
        self.capacity = capacity
        self.lengths = torch.zeros(n_lanes, dtype=torch.int64, device=device)
        self.longest = 0
        self.n_new: Tensor | None = None

    def positions(self, n_tokens: int) -> Tensor:
        """(B, T) positions that the next tokens of each lane will take.

        Raises:
            ValueError: there is no room for them.
        """
        if self.longest + n_tokens > self.capacity:
            raise ValueError(
                f"The state holds {self.capacity} tokens a lane; {self.longest + n_tokens} asked for."
            )
        return self.lengths[:, None] + torch.arange(n_tokens, device=self.lengths.device)

    def part(self, lanes: slice, n_new: Tensor | None = None) -> DecodingState:
        """Some of the lanes, in the same memory, about to read; the whole has yet to `advance` by it.

        Args:
            lanes: which.
            n_new: see the attribute.
        """
        part = copy.copy(self)
        part.layers = [layer.part(lanes) for layer in self.layers]
        part.lengths, part.n_new = self.lengths[lanes], n_new
        return part

    def advance(self, n_new: Tensor, longest: int) -> None:
        """Move lanes on by (B,) tokens, which makes the longest so long."""
        self.lengths = self.lengths + n_new
        self.longest = longest

    def keep(self, kept: Tensor) -> Tensor:
        """Let finished lanes leave the batch; the last of those kept move into their places.

        Args:
            kept: (B,) bool, the lanes that stay.

        Returns:
            (n,) int64, for each place from now on, the lane that it held or now gets.
        """
        n_kept = int(kept.sum())
        lanes = torch.arange(n_kept, device=kept.device)
        freed = (~kept[:n_kept]).nonzero().flatten()
        moving = kept[n_kept:].nonzero().flatten() + n_kept
        lanes[freed] = moving
        for layer in self.layers:
            layer.move(freed, moving, n_kept, self.longest)
        self.lengths = self.lengths[lanes]
        self.longest = int(self.lengths.max()) if n_kept else 0
        return lanes
