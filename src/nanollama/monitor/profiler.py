"""Where the time goes: seconds by phase, throughput, FLOP/s, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from nanollama.data.batch import Batch

Phase = Literal["data", "forward_backward", "optimizer", "evaluate", "checkpoint"]
STEP_PHASES: tuple[Phase, ...] = ("data", "forward_backward", "optimizer")
PHASES: tuple[Phase, ...] = (*STEP_PHASES, "evaluate", "checkpoint")


class Profiler:
    """Counts work and seconds between two rows of metrics.

    Seconds are those of this process. Work given to a GPU is waited for where the loss is read, so it
    counts to the forward and backward pass.

    Args:
        device: whose memory is reported.
        seconds: what earlier processes of the same run have spent.
        step: how far they have come.
    """

    def __init__(self, device: torch.device, seconds: float = 0.0, step: int = 0) -> None:
        self._device = device
        self._started = time.perf_counter()
        self._seconds_before, self._step_before = seconds, step
        self._reset()

    def _reset(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._n_tokens = self._n_examples = 0
        self._flops = 0.0

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of the whole run so far, over all its processes in time."""
        return self._seconds_before + time.perf_counter() - self._started

    def seconds_left(self, step: int, n_steps: int) -> float:
        """Of a run at this step, at the pace of this process: an earlier one may have had another machine."""
        own_steps = step - self._step_before
        return (time.perf_counter() - self._started) / own_steps * (n_steps - step)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the seconds inside to a phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    def count(self, n_tokens: int, n_examples: int, flops: float) -> None:
        """Add the work of a step, summed over all processes."""
        self._n_tokens += n_tokens
        self._n_examples += n_examples
        self._flops += flops

    def row(self) -> dict[str, float]:
        """Columns for the time since the last row; rates count the seconds of training steps only."""
        seconds = max(sum(self._seconds[name] for name in STEP_PHASES), 1e-9)
        columns = {
            "tokens_per_second": round(self._n_tokens / seconds, 1),
            "examples_per_second": round(self._n_examples / seconds, 2),
            "elapsed_seconds": round(self.elapsed_seconds, 3),
            "flops_per_second": round(self._flops / seconds),
            "peak_memory_mib": round(peak_memory_bytes(self._device) / 2**20, 1),
            **{f"{name}_seconds": round(self._seconds[name], 4) for name in PHASES},
        }
        self._reset()
        return columns


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held at once by this process: allocated on its GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else resident * 1024


def training_flops(model: nn.Module, batch: Batch) -> float:
    """Floating-point operations of a training step, padding included; 0 for a model that cannot count them.

    The backward pass costs twice the forward pass: one product for the inputs, one for the weights.
    """
    forward_flops = getattr(model, "forward_flops", None)
    if forward_flops is None:
        return 0.0
    n_rows, seq_len = batch.input_ids.shape
    return 3.0 * n_rows * forward_flops(seq_len, batch.targets.shape[1])
