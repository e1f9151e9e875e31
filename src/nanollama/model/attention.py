"""Causal attention, computed by whichever kernel is fast for the device and the shape.

Shapes: B rows, H heads, T keys, M queries, K head_dim.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_BLOCK = 64  # queries a block; at 96, steps took a tenth longer on the CPUs measured


def visibility(
    query_positions: Tensor,
    n_keys: int,
    documents: Tensor | None = None,
    query_documents: Tensor | None = None,
) -> Tensor:
    """Which keys a query may see: those not after it, in its own document.

    Args:
        query_positions: (B, M) positions of the queries among the keys.
        n_keys: T.
        documents: (B, T) document of each key, ``None`` when rows hold one document.
        query_documents: (B, M) document of each query.

    Returns:
        (B, 1, M, T) bool, true where the query sees the key.
    """
    keys = torch.arange(n_keys, device=query_positions.device)
    seen = keys <= query_positions[:, :, None]
    if documents is not None and query_documents is not None:
        seen = seen & (documents[:, None, :] == query_documents[:, :, None])
    return seen[:, None]


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention; causal when ``seen`` is ``None``.

    Args:
        query: (B, H, M, K); key, value: (B, H_kv, T, K), each key head shared by H / H_kv query heads.
        seen: (B, 1, M, T) from `visibility`.

    Returns:
        (B, H, M, K), in the dtype of ``value``.
    """
    if query.device.type == "cpu" and query.dtype in (torch.bfloat16, torch.float16):
        # The backward pass of torch's half-precision kernel is several times slower than float32 on CPUs.
        with torch.autocast("cpu", enabled=False):
            if seen is None and query.shape == key.shape:
                return attend_in_blocks(query, key, value)
            return attend(query.float(), key.float(), value.float(), seen)
    if query.device.type == "cpu" and query.shape[2] == 1 and seen is not None:
        return attend_from_one(query, key, value, seen)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=seen is None, enable_gqa=query.shape[1] != key.shape[1]
    )


def attend_from_one(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Attention of one query a row by plain matrix products: faster than torch's kernel where CPUs decode.

    Shapes as in `attend`, with M = 1.
    """
    n_rows, n_heads, _, width = query.shape
    grouped = (query * width**-0.5).view(n_rows, key.shape[1], -1, width)  # heads that share a key head
    hidden = torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -torch.inf)
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
