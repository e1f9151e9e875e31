"""The same bits on a GPU each time, for those who ask for it; a CPU gives them anyway."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without it, matrix products on several streams of a GPU may be summed in any order."""


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch use algorithms alone that give the same bits each time, and refuse where it has none.

    A value of the user's own in ``CUBLAS_WORKSPACE_CONFIG`` stays. It is read when a process first
    multiplies matrices on a GPU.

    Args:
        wanted: nothing is changed without it.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed what torch draws from here on, on a device that is used and no other.

    Where no GPU is used, `torch.manual_seed` puts off seeding them, and writes down the traceback of each
    call in case it fails then: some 3 ms, a fifteenth of a small step of training.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
