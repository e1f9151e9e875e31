"""The parts of a transformer: rotary positions, attention, MLPs, and the block that joins them.

Shapes: B rows, T tokens, M queries (positions whose next token is asked for), D d_model, H heads, K head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.attention import attend
from nanollama.model.cache import KVCache
from nanollama.model.transformer_config import TransformerConfig

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""What mixes values by queries and keys; see `nanollama.model.attention.attend`."""


Positions = slice | Tensor
"""Of the tokens in their documents: a stretch that all rows share, or (T,) or (B, T) int64."""


def at_positions(table: Tensor, positions: Positions) -> Tensor:
    """Rows of a table (P, D) at positions: (T, D) or (B, T, D). A stretch is a view: nothing is looked up."""
    return table[positions] if isinstance(positions, slice) else F.embedding(positions, table)


class Rotary(nn.Module):
    """Rotary positions (arXiv 2104.09864): pair i of a head turns by position * theta ** (-2 i / K).

    A pair is (i, i + K / 2), the layout of Hugging Face's Llama.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TransformerConfig) -> None:
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


def rotate(heads: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (B, H, T, K) by the tables of `Rotary`."""
    cos, sin = tables
    first, second = heads.chunk(2, dim=-1)
    return (heads * cos + torch.cat([second, first], dim=-1) * sin).to(heads.dtype)


class Attention(nn.Module):
    """Causal self-attention with grouped-query heads; one matrix makes queries, keys and values."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head_dim = config.head_width
        self.n_query = config.n_heads * config.head_width
        self.n_kv = config.kv_heads * config.head_width
        self.qkv = nn.Linear(config.d_model, self.n_query + 2 * self.n_kv, bias=config.bias)
        self.output = nn.Linear(self.n_query, config.d_model, bias=config.bias)
        self.kernel: Kernel = attend  # a probe puts its own here to see or to replace attention maps

    def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
        """What each position collects from those it sees: (B, T, D) -> (B, T, H K), before the output map."""
        query, key, value = self.qkv(x).split([self.n_query, self.n_kv, self.n_kv], dim=-1)
        query, key, value = self.heads(query), self.heads(key), self.heads(value)
        if context.tables is not None:
            query, key = rotate(query, context.tables), rotate(key, context.tables)
        if context.cache is not None:
            key, value = context.cache.extend(layer, key, value)
        return self.kernel(query, key, value, context.seen).transpose(1, 2).flatten(2)

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, H K) -> (B, H, T, K)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


@dataclass(frozen=True)
class Context:
    """What the layers of one forward pass share: who sees whom, rotary tables, the cache."""

    seen: Tensor | None
    tables: tuple[Tensor, Tensor] | None
    cache: KVCache | None


class SwiGLU(nn.Module):
    """Gated MLP (arXiv 2002.05202): down(silu(gate(x)) * up(x)); one matrix makes gate and up."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.mlp_width, bias=config.bias)
        self.down = nn.Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class GeluMLP(nn.Module):
    """Plain MLP: down(gelu(up(x)))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.mlp_width, bias=config.bias)
        self.down = nn.Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


NORMS: dict[str, Callable[[TransformerConfig], nn.Module]] = {
    "rms": lambda config: nn.RMSNorm(config.d_model, eps=config.norm_eps),
    "layer": lambda config: nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias),
}
MLPS: dict[str, type[nn.Module]] = {"swiglu": SwiGLU, "gelu": GeluMLP}


class Block(nn.Module):
    """Attention, then an MLP; each reads a normed stream and adds to it."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = NORMS[config.norm](config)
        self.attention = Attention(config)
        self.mlp_norm = NORMS[config.norm](config)
        self.mlp = MLPS[config.mlp](config)
        self.dropout = nn.Dropout(config.dropout)
        self.adds_to_normed = config.residual == "normed"

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, M, D) when only these positions go on."""
        normed = self.attention_norm(x)
        x = normed if self.adds_to_normed else x
        collected = self.attention(normed, context, self.layer)
        if query_positions is not None:
            x, collected = gather(x, query_positions), gather(collected, query_positions)
        x = x + self.dropout(self.attention.output(collected))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


def gather(x: Tensor, positions: Tensor) -> Tensor:
    """Rows of x (B, T, D) at positions (B, M): (B, M, D)."""
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[-1]))
