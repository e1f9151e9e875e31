"""Attention, computed by whichever kernel is fast for the device and the shape.

Shapes: B rows, H heads, T keys, M queries, K head_dim, D d_model, S capacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.config import ModelConfig
from nanollama.model.mixers.mixer import Context, Mixer, gather
from nanollama.model.positions import Relative, rotate
from nanollama.model.state import LayerState

QUERY_BLOCK = 64  # queries a block; at 96, steps took a tenth longer on the CPUs measured


class Kernel(Protocol):
    """What mixes values by queries and keys; see `attend`."""

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = True
    ) -> Tensor:
        """(B, H, M, K)."""
        ...


@dataclass
class KeyValues(LayerState):
    """Keys and values of the tokens read, rotated as they were: each (B, H_kv, S, K)."""

    keys: Tensor
    values: Tensor

    def extend(self, key: Tensor, value: Tensor, positions: Tensor, stop: int) -> tuple[Tensor, Tensor]:
        """Store those of new tokens; return all so far.

        Args:
            key: (B, H_kv, T, K) of new tokens; value: the same.
            positions: (B, T) of new tokens.
            stop: most tokens a row then has.

        Returns:
            keys and values, (B, H_kv, stop, K).
        """
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        for stored, new in ((self.keys, key), (self.values, value)):
            stored[rows, :, positions] = new.transpose(1, 2).to(stored.dtype)
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def move(self, to: Tensor, of: Tensor, n_kept: int, longest: int) -> None:
        for stored in (self.keys, self.values):
            stored[to, :, :longest] = stored[of, :, :longest]
        self.keys, self.values = self.keys[:n_kept], self.values[:n_kept]


class Attention(Mixer):
    """Self-attention with grouped-query heads; one matrix makes queries, keys and values."""

    name: ClassVar[str] = "attention"

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.n_heads, self.head_dim, self.causal = config.query_heads, config.head_width, config.causal
        self.n_query, self.n_kv = self.n_heads * self.head_dim, config.kv_heads * self.head_dim
        self.qkv = nn.Linear(config.d_model, self.n_query + 2 * self.n_kv, bias=config.bias)
        self.output = nn.Linear(self.n_query, config.d_model, bias=config.bias)
        self.relative = Relative(config) if config.positions == "relative" else None
        self.kernel: Kernel = attend  # a probe puts its own here to see or to replace attention maps

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        query, key, value = self.qkv(x).split([self.n_query, self.n_kv, self.n_kv], dim=-1)
        query, key, value = self._heads(query), self._heads(key), self._heads(value)
        if context.rotary is not None:
            query, key = rotate(query, context.rotary), rotate(key, context.rotary)
        mask = context.mask
        if self.relative is not None:
            more = self.relative(query, key) * self.head_dim**-0.5
            mask = more if mask is None else more.masked_fill(~mask, -torch.inf)
        if context.state is not None:
            read, positions = context.state.layers[self.layer], context.positions
            assert isinstance(read, KeyValues) and isinstance(positions, Tensor)
            key, value = read.extend(key, value, positions, context.state.longest + positions.shape[1])
        collected = self.kernel(query, key, value, mask, causal=self.causal).transpose(1, 2).flatten(2)
        if query_positions is not None:
            collected = gather(collected, query_positions)
        return self.output(collected)

    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> KeyValues:
        """Room for all tokens; what padding leaves behind is overwritten before anyone sees it."""
        shape = (n_rows, self.n_kv // self.head_dim, capacity, self.head_dim)
        dtype = self.output.weight.dtype
        return KeyValues(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))

    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        """Every query-key pair counts, also those a causal mask hides, as dense kernels compute them."""
        distances = 0 if self.relative is None else 2 * seq_len * (self.n_query + self.n_kv)
        maps = self.qkv.weight.numel() + 2 * seq_len * self.n_query + distances
        return 2 * (seq_len * maps + n_queries * self.output.weight.numel())

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, H K) -> (B, H, T, K)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = True
) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: (B, H, M, K); key, value: (B, H_kv, T, K), each key head shared by H / H_kv query heads.
        mask: (B, 1, M, T) bool, true where a query sees a key; or (B, H, M, T), added to the scores.
        causal: without ``mask``: does a query see no keys after it?

    Returns:
        (B, H, M, K), in the dtype of ``value``.
    """
    if query.device.type == "cpu" and query.dtype in (torch.bfloat16, torch.float16):
        # The backward pass of torch's half-precision kernel is several times slower than float32 on CPUs.
        with torch.autocast("cpu", enabled=False):
            if mask is None and causal and query.shape == key.shape:
                return attend_in_blocks(query, key, value)
            mask = mask.float() if mask is not None and mask.is_floating_point() else mask
            return attend(query.float(), key.float(), value.float(), mask, causal=causal)
    if query.device.type == "cpu" and query.shape[2] == 1 and mask is not None and mask.dtype == torch.bool:
        return attend_from_one(query, key, value, mask)
    is_causal = causal and mask is None
    is_grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=is_grouped
    )


def attend_from_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of one query a row by plain matrix products: faster than torch's kernel where CPUs decode.

    Shapes as in `attend`, with M = 1.
    """
    n_rows, n_heads, _, width = query.shape
    grouped = (query * width**-0.5).view(n_rows, key.shape[1], -1, width)  # heads that share a key head
    hidden = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    return ((grouped @ key.transpose(2, 3)).add_(hidden).softmax(-1) @ value).view(n_rows, n_heads, 1, width)


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention by plain matrix products, a block of queries at a time: fast in bfloat16 on CPUs.

    A block attends to the keys up to its end, so most of what a causal mask hides is never computed; the
    mask is added by the product itself. Shapes as in `attend`, all (B, H, T, K).
    """
    n_rows, n_heads, n_tokens, width = query.shape
    flat = (n_rows * n_heads, n_tokens, width)
    result, *_ = _forward((query * width**-0.5).reshape(flat), key.reshape(flat), value.reshape(flat))
    return result.view(query.shape)


def _blocks(n_tokens: int) -> list[tuple[int, int]]:
    """First query of each block, and the first behind it; a few left over make the last block longer."""
    n_blocks = max(1, (n_tokens + QUERY_BLOCK - QUERY_BLOCK // 4) // QUERY_BLOCK)
    # Compiled for any length, a graph is made for each such number.
    return list(pairwise([*(QUERY_BLOCK * block for block in range(n_blocks)), n_tokens]))


# Both passes are opaque to torch.compile, which would fuse the sums over blocks into slow loops.
@torch.library.custom_op("nanollama::attend_in_blocks", mutates_args=())
def _forward(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Scaled queries, keys and values (B H, T, K) to the result (B H, T, K) and the weights of each block."""
    result = torch.empty_like(query)
    weights = []
    for start, stop in _blocks(query.shape[1]):
        hidden = query.new_full((stop - start, stop), -torch.inf).triu(start + 1)
        scores = torch.baddbmm(hidden, query[:, start:stop], key[:, :stop].transpose(1, 2))
        weights.append(torch.softmax(scores, -1, out=scores))
        torch.bmm(weights[-1], value[:, :stop], out=result[:, start:stop])
    return [result, *weights]


@torch.library.custom_op("nanollama::attend_in_blocks_backward", mutates_args=())
def _backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, outputs: list[Tensor]) -> list[Tensor]:
    """Gradients of queries, keys and values, given that of the result and all that `_forward` returned."""
    result, *weights = outputs
    grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    mean = (grad * result).sum(-1, keepdim=True)  # of a query's gradient over what it attends to
    for (start, stop), weight in zip(_blocks(query.shape[1]), weights, strict=True):
        here = grad[:, start:stop]
        scores = torch.baddbmm(mean[:, start:stop], here, value[:, :stop].transpose(1, 2), beta=-1)
        scores.mul_(weight)
        torch.bmm(scores, key[:, :stop], out=grad_query[:, start:stop])
        grad_key[:, :stop].baddbmm_(scores.transpose(1, 2), query[:, start:stop])
        grad_value[:, :stop].baddbmm_(weight.transpose(1, 2), here)
    return [grad_query, grad_key, grad_value]


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    weights = [query.new_empty(len(query), stop - start, stop) for start, stop in _blocks(query.shape[1])]
    return [torch.empty_like(query), *weights]


@_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, outputs: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)]


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Tensor, ...]:
    query, key, value, *outputs = ctx.saved_tensors
    return tuple(_backward(grads[0].contiguous(), query, key, value, outputs))


_forward.register_autograd(_differentiate, setup_context=_save)
