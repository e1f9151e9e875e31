"""How fast this machine multiplies matrices: bfloat16 beside float32, ``python -m benchmarks machine``.

Machines of one kind differ by a factor of two, from one to the next and within an hour, so each row of a
benchmark says both figures of its time. Where bfloat16 gains less over float32, loops that use it gain less
over loops that do not.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.turns import Contestant, Pair, Step

SIZES = (256, 512, 1024, 2048)
MAX_SECONDS = 0.2
BUDGET_SECONDS = 20.0


def products(dtype: torch.dtype) -> Step:
    """A step is one square product, of the largest size that is quick enough; its work is counted in GFLOP.

    Processors without instructions for bfloat16 have come to 0.3 GFLOP/s, a minute for the largest.
    """
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        one, other = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
        began = time.perf_counter()
        torch.mm(one, other)
        if time.perf_counter() - began > MAX_SECONDS:
            break

    def step(number: int) -> float:
        torch.mm(one, other)
        return 2 * size**3 / 1e9

    return step


def gigaflops(dtype: torch.dtype, n_times: int = 3) -> float:
    """GFLOP/s at this moment, the best of so many products."""
    step, speeds = products(dtype), []
    for number in range(n_times):
        began = time.perf_counter()
        work = step(number)
        speeds.append(work / (time.perf_counter() - began))
    return max(speeds)


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    bfloat16, float32 = (
        Contestant(str(dtype).removeprefix("torch."), partial(products, dtype))
        for dtype in (torch.bfloat16, torch.float32)
    )
    return [Pair("matrix products", "GFLOP/s", bfloat16, float32)]
