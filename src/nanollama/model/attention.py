"""Causal attention, computed by whichever kernel is fast for the device and the shape.

Shapes: B rows, H heads, T keys, M queries, K head_dim.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_BLOCK = 96  # queries a block at most; 64 to 128 are equally fast on the CPUs measured


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
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=seen is None, enable_gqa=query.shape[1] != key.shape[1]
    )


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention by plain matrix products, a block of queries at a time: fast in bfloat16 on CPUs.

    A block attends to the keys up to its end, so most of what a causal mask hides is never computed; the
    mask is added by the product itself. Shapes as in `attend`, all (B, H, T, K).
    """
    n_rows, n_heads, n_tokens, width = query.shape
    flat = (n_rows * n_heads, n_tokens, width)
    queries, keys, values = (query * width**-0.5).reshape(flat), key.reshape(flat), value.reshape(flat)
    n_blocks = -(-n_tokens // QUERY_BLOCK)
    edges = [n_tokens * block // n_blocks for block in range(n_blocks + 1)]
    blocks = []
    for start, stop in pairwise(edges):
        hidden = torch.full((stop - start, stop), -torch.inf, dtype=query.dtype).triu(start + 1)
        scores = torch.baddbmm(hidden, queries[:, start:stop], keys[:, :stop].transpose(1, 2))
        blocks.append(torch.bmm(scores.softmax(-1), values[:, :stop]))
    return torch.cat(blocks, dim=1).view(query.shape)
