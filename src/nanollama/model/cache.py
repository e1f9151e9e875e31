"""Keys and values of the tokens a model has read, so that each new token costs one step.

Shapes: L layers, B lanes, H key-value heads, S capacity, K head_dim, T new tokens.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor


class KVCache:
    """A fixed block of memory; every lane stands at its own position.

    Attributes:
        lengths: (B,) int64, tokens each lane holds.
    """

    def __init__(
        self,
        n_layers: int,
        n_lanes: int,
        n_kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (n_layers, n_lanes, n_kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(n_lanes, dtype=torch.int64, device=device)
        self.longest = 0  # max of lengths, kept beside it so that reading it does not wait for a device

    @property
    def capacity(self) -> int:
        """Tokens a lane can hold."""
        return self.keys.shape[3]

    def positions(self, n_new: int) -> Tensor:
        """(B, T) positions that the next ``n_new`` tokens of each lane will take."""
        return self.lengths[:, None] + torch.arange(n_new, device=self.lengths.device)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H, T, K) of new tokens; return all so far, (B, H, <= S, K)."""
        n_new = key.shape[2]
        if self.longest + n_new > self.capacity:
            raise ValueError(
                f"The cache holds {self.capacity} tokens a lane; {self.longest + n_new} asked for."
            )
        lanes = torch.arange(len(self.lengths), device=self.lengths.device)[:, None]
        positions = self.positions(n_new)
        self.keys[layer][lanes, :, positions] = key.transpose(1, 2).to(self.keys.dtype)
        self.values[layer][lanes, :, positions] = value.transpose(1, 2).to(self.values.dtype)
        stop = self.longest + n_new
        return self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop]

    def advance(self, n_new: Tensor, longest: int) -> None:
        """Move lanes on by (B,) tokens, fewer than were stored where a lane's input was padded."""
        self.lengths = self.lengths + n_new
        self.longest = longest

    def part(self, lanes: slice) -> KVCache:
        """Some of the lanes, in the same memory; the whole has yet to `advance` by what a part reads."""
        part = copy.copy(self)
        part.keys, part.values, part.lengths = self.keys[:, lanes], self.values[:, lanes], self.lengths[lanes]
        return part

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
        for stored in (self.keys, self.values):
            stored[:, freed, :, : self.longest] = stored[:, moving, :, : self.longest]
        self.keys, self.values = self.keys[:, :n_kept], self.values[:, :n_kept]
        self.lengths = self.lengths[lanes]
        self.longest = int(self.lengths.max()) if n_kept else 0
        return lanes
