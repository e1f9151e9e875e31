"""How fast this machine multiplies matrices, beside the one that the aims in seconds were set on.

``python -m benchmarks machine``. Read an aim of so many seconds with these figures beside it; and where
bfloat16 gains less over float32 than there, loops that use it gain less over loops that do not.
"""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.row import Row

SIZE = 2048
OF_THE_AIMS = {torch.float32: 212.0, torch.bfloat16: 920.0}  # GFLOP/s, two cores of an AMD EPYC


def rows(quick: bool = False) -> list[Row]:
    """One row a number format."""
    return [
        Row(
            f"matrix products in {str(dtype).removeprefix('torch.')}",
            gigaflops(dtype, n_times=3 if quick else 30),
            "GFLOP/s",
            aim,
            "the machine of the aims",
        )
        for dtype, aim in OF_THE_AIMS.items()
    ]


def gigaflops(dtype: torch.dtype, n_times: int) -> float:
    """Median speed of a square product."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(SIZE, SIZE, generator=generator).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(n_times):
        began = time.perf_counter()
        one @ other
        seconds.append(time.perf_counter() - began)
    return 2 * SIZE**3 / statistics.median(seconds) / 1e9


if __name__ == "__main__":
    for row in rows():
        print(row)
