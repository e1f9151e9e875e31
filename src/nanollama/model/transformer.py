"""Decoder-only transformer: pre-norm blocks of causal attention and an MLP.

With RMSNorm, SwiGLU, rotary positions and no biases it is the Llama architecture (arXiv 2302.13971);
LayerNorm, GELU and learned positions make it a GPT-2. Published runs are reproduced by settings, never by
another class.

Shapes: B rows, T tokens, M queries (positions whose next token is asked for), D d_model, H heads, K head_dim,
V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.attention import visibility
from nanollama.model.cache import KVCache
from nanollama.model.layers import NORMS, Block, Context, Positions, Rotary, at_positions, rotate
from nanollama.model.transformer_config import TransformerConfig

__all__ = ["Rotary", "Transformer", "TransformerConfig", "rotate"]


class Transformer(nn.Module):
    """Token ids to next-token logits. Build one with `nanollama.model.build_model`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.max_seq_len, config.position_width)
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        on_embeddings = config.embedding_dropout
        self.dropout = nn.Dropout(config.dropout if on_embeddings is None else on_embeddings)
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
            query_positions: (B, M) positions in ``input_ids``; behind the last attention, only they go on.
            documents: (B, T) document of each token in packed rows.
            cache: read and extended; the caller then calls ``cache.advance``. Query positions count within
                the new tokens.
        """
        n_tokens = input_ids.shape[1]
        positions = self._positions(input_ids, documents, cache)
        x = self.embedding(input_ids)
        if self.config.positions == "learned":
            embedded = at_positions(self.position_embedding.weight, positions)
            x = x + F.pad(embedded, (0, x.shape[-1] - self.config.position_width))
        x = self.dropout(x)

        tables = None if self.rotary is None else self.rotary(positions)
        seen = None
        if cache is not None:
            seen = visibility(cache.positions(n_tokens), cache.longest + n_tokens)
        elif documents is not None:
            everywhere = torch.arange(n_tokens, device=input_ids.device).expand_as(input_ids)
            seen = visibility(everywhere, n_tokens, documents, documents)
        context = Context(seen, tables, cache)
        for block in self.blocks[:-1]:
            x = block(x, context)
        x = self.blocks[-1](x, context, query_positions)
        return self.head(self.norm(x)).float()

    def _positions(self, input_ids: Tensor, documents: Tensor | None, cache: KVCache | None) -> Positions:
        """Position of each token in its document."""
        n_tokens = input_ids.shape[1]
        if cache is not None:
            return cache.positions(n_tokens)
        if documents is None:
            return slice(n_tokens)
        index = torch.arange(n_tokens, device=input_ids.device)
        opens = torch.ones_like(documents, dtype=torch.bool)
        opens[:, 1:] = documents[:, 1:] != documents[:, :-1]
        return index - torch.where(opens, index, 0).cummax(dim=1).values

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
                module.weight.normal_(0.0, self.config.embedding_std or std, generator=generator)
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

    def cache_bytes(self, capacity: int) -> int:
        """Memory of one lane of a cache that holds so many tokens."""
        config = self.config
        n_numbers = 2 * config.n_layers * config.kv_heads * config.head_width * capacity
        return n_numbers * self.embedding.weight.element_size()

    def n_params(self) -> int:
        """Number of parameters; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward_flops(self, seq_len: int, n_queries: int | None = None) -> int:
        """Floating-point operations of the matrix products of one row's forward pass, a multiply-add as two.

        Attention counts every query-key pair, also those a causal mask hides, as dense kernels compute them.
        A training step costs three times as much. ``n_queries`` as in ``forward``: behind the
        last attention, only they go on.
        """
        config = self.config
        queries = seq_len if n_queries is None else n_queries
        width, kv_width = config.n_heads * config.head_width, config.kv_heads * config.head_width
        mlp = (3 if config.mlp == "swiglu" else 2) * config.d_model * config.mlp_width

        def block(n_out: int) -> int:
            attention = config.d_model * (width + 2 * kv_width) + 2 * seq_len * width
            return seq_len * attention + n_out * (width * config.d_model + mlp)

        macs = (config.n_layers - 1) * block(seq_len) + block(queries)
        return 2 * (macs + queries * config.d_model * config.vocab_size)
