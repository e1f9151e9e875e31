"""Kernels of the package mamba_ssm, where it is installed and there is a GPU to run them; never needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor

ChunkScan = Callable[..., Tensor]
"""``mamba_chunk_scan_combined`` of mamba_ssm."""


def chunk_scan(device_type: str) -> ChunkScan | None:
    """The kernel of `nanollama.model.ssd.ssd` for whole rows; None where it cannot run."""
    return _import() if device_type == "cuda" else None


@cache
def _import() -> ChunkScan | None:
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError:
        return None
    kernel: ChunkScan = mamba_chunk_scan_combined
    return kernel
