"""Causal attention, computed by whichever kernel is fast for the device and the shape.

Shapes: B rows, H heads, T keys, M queries, K head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    if query.device.type == "cpu" and query.dtype != torch.float32 and query.dtype != torch.float64:
        # The backward pass of half-precision attention is several times slower than float32 on CPUs.
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float(), seen)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=seen is None, enable_gqa=query.shape[1] != key.shape[1]
    )
