"""Where tokens stand in their documents, how a model is told, and which tokens attention may see.

Shapes: B rows, T tokens, M queries, H heads, K head_dim, P positions of a table, D its width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.config import ModelConfig

Positions = slice | Tensor
"""Of the tokens in their documents: a stretch that all rows share, or (T,) or (B, T) int64."""


def positions_in_documents(documents: Tensor) -> Tensor:
    """(B, T) documents of tokens to their positions: each document counts from 0."""
    index = torch.arange(documents.shape[1], device=documents.device)
    opens = torch.ones_like(documents, dtype=torch.bool)
    opens[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index - torch.where(opens, index, 0).cummax(dim=1).values


def visible_until(positions: Tensor, n_keys: int) -> Tensor:
    """Keys that are not after a query: (B, M) positions of queries among T keys to (B, 1, M, T) bool."""
    keys = torch.arange(n_keys, device=positions.device)
    return (keys <= positions[:, :, None])[:, None]


def visible_in_documents(documents: Tensor, causal: bool) -> Tensor:
    """Keys in a query's own document and, if causal, not after it: (B, T) documents to (B, 1, T, T) bool."""
    mask = documents[:, :, None] == documents[:, None, :]
    return (mask.tril() if causal else mask)[:, None]


def at_positions(table: Tensor, positions: Positions) -> Tensor:
    """Rows of a table (P, D) at positions: (T, D) or (B, T, D). A stretch is a view: nothing is looked up."""
    return table[positions] if isinstance(positions, slice) else F.embedding(positions, table)


class Rotary(nn.Module):
    """Rotary positions (arXiv 2104.09864): pair i of a head turns by position * theta ** (-2 i / K).

    A pair is (i, i + K / 2), the layout of Hugging Face's Llama.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        cos, sin = self.tables()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (max_seq_len, K) each; the sine carries the sign of its half."""
        width = self.config.head_width
        frequencies = self.config.rope_theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        if self.config.rope_two_pi:
            frequencies = frequencies * 2 * math.pi
        angles = torch.arange(self.config.max_seq_len, dtype=torch.float64)[:, None] * frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)

    def forward(self, positions: Positions) -> tuple[Tensor, Tensor]:
        """Tables at positions, shaped to turn (B, H, T, K)."""
        cos, sin = at_positions(self.cos, positions), at_positions(self.sin, positions)
        return (cos, sin) if cos.dim() == 2 else (cos[:, None], sin[:, None])


class Relative(nn.Module):
    """Relative positions (method 4 of arXiv 2009.13658): a learned vector r for each distance.

    To the product of query i and key j come those of either with r of j - i: q_i k_j + q_i r + k_j r.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_positions = config.max_seq_len
        self.embedding = nn.Embedding(2 * config.max_seq_len - 1, config.head_width)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """What comes to the products of queries (B, H, T, K) and keys (B, H_kv, T, K): (B, H, T, T)."""
        n_tokens, middle = query.shape[2], self.n_positions - 1
        table = self.embedding.weight[middle - n_tokens + 1 : middle + n_tokens]
        by_query = _at_distances(query @ F.pad(table, (0, 0, 0, 1)).T)
        by_key = _at_distances(key @ F.pad(table.flip(0), (0, 0, 0, 1)).T).transpose(2, 3)
        return by_query + by_key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)


def _at_distances(products: Tensor) -> Tensor:
    """From products with 2 T distances, -T + 1 first, those of j - i for each row i: (B, H, T, T).

    Each row begins one entry before the row above it, so one view of the numbers in a line shows them all.
    """
    n_tokens = products.shape[2]
    line = products.flatten(2)[..., n_tokens - 1 : n_tokens - 1 + n_tokens * (2 * n_tokens - 1)]
    return line.unflatten(2, (n_tokens, 2 * n_tokens - 1))[..., :n_tokens]


def rotate(heads: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (B, H, T, K) by the tables of `Rotary`."""
    cos, sin = tables
    first, second = heads.chunk(2, dim=-1)
    return (heads * cos + torch.cat([second, first], dim=-1) * sin).to(heads.dtype)
