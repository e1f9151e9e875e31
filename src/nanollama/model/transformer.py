"""Decoder-only transformer: pre-norm blocks of causal attention and an MLP.

With RMSNorm, SwiGLU, rotary positions and no biases it is the Llama architecture (arXiv 2302.13971);
LayerNorm, GELU and learned positions make it a GPT-2. Published runs are reproduced by settings, never by
another class.

Shapes: B rows, T tokens, M queries (positions whose next token is asked for), D d_model, H heads, K head_dim,
V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from nanollama.config import Config
from nanollama.model.attention import attend, visibility
from nanollama.model.cache import KVCache


class TransformerConfig(Config):
    """Shape of a transformer. Counts that are ``None`` follow from the others."""

    implementation: Literal["transformer"] = Field("transformer", description="Which model this is.")
    vocab_size: int = Field(260, ge=1, description="Number of token ids.")
    d_model: int = Field(description="Width of the residual stream.", ge=1)
    n_layers: int = Field(description="Number of blocks.", ge=1)
    n_heads: int = Field(description="Number of query heads.", ge=1)
    n_kv_heads: int | None = Field(None, ge=1, description="Number of key-value heads; default n_heads.")
    head_dim: int | None = Field(None, ge=1, description="Width of a head; default d_model / n_heads.")
    d_ff: int | None = Field(None, ge=1, description="Width of the MLP; default 4 d_model.")
    norm: Literal["rms", "layer"] = Field("rms", description="RMSNorm or LayerNorm, before each half block.")
    norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in a norm.")
    mlp: Literal["swiglu", "gelu"] = Field("swiglu", description="Gated (three matrices) or plain (two).")
    positions: Literal["rotary", "learned", "none"] = Field("rotary", description="How positions are told.")
    max_seq_len: int = Field(512, ge=1, description="Longest input, in tokens.")
    rope_theta: float = Field(10_000.0, gt=0, description="Base of the rotary wavelengths.")
    rope_two_pi: bool = Field(
        False,
        description="Multiply rotary angles by 2 pi, as the published runs of arXiv 2508.20755 did: the "
        "fastest pair of each head then turns by whole circles and tells no position.",
    )
    tied_embeddings: bool = Field(False, description="Use one matrix for input and output embeddings.")
    bias: bool = Field(False, description="Biases in the linear maps (and in LayerNorm).")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout on embeddings and on both halves of a block."
    )
    init_std: float | None = Field(
        None, gt=0, description="Spread of initial weights; default d_model ** -0.5."
    )

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model = {self.d_model} is not a multiple of n_heads = {self.n_heads}")
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads = {self.n_heads} is not a multiple of n_kv_heads = {self.kv_heads}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"rotary positions turn pairs: head_dim = {self.head_width} must be even")
        if self.rope_two_pi and self.positions != "rotary":
            raise ValueError(f"rope_two_pi needs positions = rotary, not {self.positions}")
        return self

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return self.n_kv_heads or self.n_heads

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return self.d_ff or 4 * self.d_model


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

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Tables at positions (T,) or (B, T), shaped to turn (B, H, T, K)."""
        cos, sin = self.cos[positions], self.sin[positions]
        return (cos, sin) if positions.dim() == 1 else (cos[:, None], sin[:, None])


def rotate(heads: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (B, H, T, K) by the tables of `Rotary`."""
    cos, sin = tables
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([second, first], dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention with grouped-query heads; one matrix makes queries, keys and values."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head_dim = config.head_width
        self.n_query = config.n_heads * config.head_width
        n_both = 2 * config.kv_heads * config.head_width
        self.qkv = nn.Linear(config.d_model, self.n_query + n_both, bias=config.bias)
        self.output = nn.Linear(self.n_query, config.d_model, bias=config.bias)

    def project(self, x: Tensor, x_query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x_query, keys and values of x, each (B, H, T, K)."""
        if x_query is x:
            joint = self.qkv(x)
            query, key_value = joint[..., : self.n_query], joint[..., self.n_query :]
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            query_bias, kv_bias = (
                (None, None) if bias is None else (bias[: self.n_query], bias[self.n_query :])
            )
            query = F.linear(x_query, weight[: self.n_query], query_bias)
            key_value = F.linear(x, weight[self.n_query :], kv_bias)
        key, value = key_value.chunk(2, dim=-1)
        return self.heads(query), self.heads(key), self.heads(value)

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, H K) -> (B, H, T, K)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(self, x: Tensor, x_query: Tensor, context: Context, layer: int) -> Tensor:
        """Queries from x_query (B, M, D), keys and values from x (B, T, D); returns (B, M, D)."""
        query, key, value = self.project(x, x_query)
        if context.key_tables is not None and context.query_tables is not None:
            query, key = rotate(query, context.query_tables), rotate(key, context.key_tables)
        if context.cache is not None:
            key, value = context.cache.extend(layer, key, value)
        mixed = attend(query, key, value, context.seen)
        return self.output(mixed.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class Context:
    """What the layers of one forward pass share: who sees whom, rotary tables, the cache."""

    seen: Tensor | None
    key_tables: tuple[Tensor, Tensor] | None
    query_tables: tuple[Tensor, Tensor] | None
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

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, M, D) when only these positions go on."""
        normed = self.attention_norm(x)
        normed_query = normed
        if query_positions is not None:
            x, normed_query = gather(x, query_positions), gather(normed, query_positions)
        x = x + self.dropout(self.attention(normed, normed_query, context, self.layer))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


def gather(x: Tensor, positions: Tensor) -> Tensor:
    """Rows of x (B, T, D) at positions (B, M): (B, M, D)."""
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[-1]))


class Transformer(nn.Module):
    """Token ids to next-token logits. Build one with `nanollama.model.build_model`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.max_seq_len, config.d_model)
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = NORMS[config.norm](config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        input_ids: Tensor,
        query_positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits (B, M, V) in float32 at the queried positions, (B, T, V) without ``query_positions``.

        Args:
            input_ids: (B, T) int64.
            query_positions: (B, M) positions in ``input_ids``; nothing is computed that they do not need.
            documents: (B, T) document of each token in packed rows.
            cache: read and extended; the caller then calls ``cache.advance``. Query positions count within
                the new tokens.
        """
        n_tokens = input_ids.shape[1]
        positions = self._positions(input_ids, documents, cache)
        x = self.embedding(input_ids)
        if self.config.positions == "learned":
            x = x + self.position_embedding(positions)
        x = self.dropout(x)

        tables = None if self.rotary is None else self.rotary(positions)
        seen = None
        if cache is not None:
            seen = visibility(positions, cache.longest + n_tokens)
        elif documents is not None:
            everywhere = torch.arange(n_tokens, device=input_ids.device).expand_as(input_ids)
            seen = visibility(everywhere, n_tokens, documents, documents)
        full = Context(seen, tables, tables, cache)
        for block in self.blocks[:-1]:
            x = block(x, full)
        last = (
            full
            if query_positions is None
            else self._last_context(full, positions, query_positions, documents)
        )
        x = self.blocks[-1](x, last, query_positions)
        return self.head(self.norm(x)).float()

    def _positions(self, input_ids: Tensor, documents: Tensor | None, cache: KVCache | None) -> Tensor:
        """Position of each token in its document: (T,), or (B, T) where rows differ."""
        n_tokens = input_ids.shape[1]
        if cache is not None:
            return cache.positions(n_tokens)
        index = torch.arange(n_tokens, device=input_ids.device)
        if documents is None:
            return index
        opens = torch.ones_like(documents, dtype=torch.bool)
        opens[:, 1:] = documents[:, 1:] != documents[:, :-1]
        return index - torch.where(opens, index, 0).cummax(dim=1).values

    def _last_context(
        self, full: Context, positions: Tensor, query_positions: Tensor, documents: Tensor | None
    ) -> Context:
        """The context of the last block, where only the queried positions go on."""
        if positions.dim() == 1:
            at_queries = positions[query_positions]
        else:
            at_queries = positions.gather(1, query_positions)
        if full.cache is not None:
            seen = visibility(at_queries, full.cache.longest + positions.shape[1])
        else:
            query_documents = None if documents is None else documents.gather(1, query_positions)
            seen = visibility(query_positions, positions.shape[-1], documents, query_documents)
        tables = None if self.rotary is None else self.rotary(at_queries)
        return Context(seen, full.key_tables, tables, full.cache)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights: normal, with the maps that write to the stream scaled by 1 / sqrt(2 n_layers)."""
        std = self.config.init_std or self.config.d_model**-0.5
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                writes = name.endswith(("attention.output", "mlp.down"))
                scale = (2 * self.config.n_layers) ** -0.5 if writes else 1.0
                module.weight.normal_(0.0, std * scale, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, std, generator=generator)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                nn.init.ones_(module.weight)
                if isinstance(module, nn.LayerNorm) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Rotary):
                cos, sin = module.tables()
                module.cos.copy_(cos)
                module.sin.copy_(sin)

    def make_cache(self, n_lanes: int, capacity: int) -> KVCache:
        """An empty cache on the model's device."""
        config, weight = self.config, self.embedding.weight
        return KVCache(
            config.n_layers,
            n_lanes,
            config.kv_heads,
            capacity,
            config.head_width,
            weight.dtype,
            weight.device,
        )

    def n_params(self) -> int:
        """Number of parameters; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward_flops(self, seq_len: int, n_queries: int | None = None) -> int:
        """Floating-point operations of the matrix products of one row's forward pass, a multiply-add as two.

        Attention counts every query-key pair, also those a causal mask hides, as dense kernels compute them.
        A training step costs three times as much. ``n_queries`` as in ``forward``: the last block and the
        head serve only them.
        """
        config = self.config
        queries = seq_len if n_queries is None else n_queries
        width, kv_width = config.n_heads * config.head_width, config.kv_heads * config.head_width
        mlp = (3 if config.mlp == "swiglu" else 2) * config.d_model * config.mlp_width

        def block(n_out: int) -> int:
            keys_values = seq_len * 2 * config.d_model * kv_width
            per_query = 2 * config.d_model * width + mlp + 2 * seq_len * width
            return keys_values + n_out * per_query

        macs = (config.n_layers - 1) * block(seq_len) + block(queries)
        return 2 * (macs + queries * config.d_model * config.vocab_size)
