"""What two processes do in tests of distributed training, under ``torchrun --nproc-per-node 2``.

Each rank leaves what it has seen and where its weights ended in ``FOLDER/rank_<k>.pt``.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanollama.data.batch import Batch
from nanollama.distributed import open_world
from nanollama.errors import Preempted
from nanollama.training.loop import Diverged
from tests.toy_training import ToyConfig, ToyModel, ToyStream, run_toy, toy_config, toy_loss

RANK = int(os.environ.get("RANK", "0"))


def ranks_config(folder: Path) -> ToyConfig:
    """A run whose shares are unequal: seven rows for two ranks, cut into two micro-batches each."""
    return toy_config(folder, n_steps=10, batch_size=7, n_accumulation=2, eval_every=4)


class RecordingStream(ToyStream):
    """Keeps the inputs it has handed out, by step."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.inputs: dict[int, Tensor] = {}

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        batch = super().batch(step, rank, world_size)
        self.inputs[step] = batch.input_ids
        return batch


class OnRankOne:
    """The toy's loss; at one step, on rank 1 alone, something happens to it."""

    def __init__(self, step: int, action: str) -> None:
        self.call, self.action, self.calls = 2 * step, action, 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if RANK == 1 and self.calls == self.call and self.action == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        poison = math.nan if RANK == 1 and self.calls == self.call and self.action == "diverge" else 1.0
        return toy_loss(model, batch) * poison


class Drawing:
    """The toy's loss, which notes what a dropout in it would draw."""

    def __init__(self) -> None:
        self.draws: list[float] = []

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.draws.append(float(torch.rand(())))
        return toy_loss(model, batch)


def message_of(config: ToyConfig, **parts: Any) -> str:
    """What a run ends with."""
    try:
        return run_toy(config, **parts).status
    except (Preempted, Diverged) as error:
        return f"{type(error).__name__}: {error}"


def main(folder: Path) -> None:
    model, stream = ToyModel(seed=RANK), RecordingStream(7)  # different at first: rank 0's weights count
    found: dict[str, Any] = {"whole": message_of(ranks_config(folder / "whole"), model=model, stream=stream)}
    found |= {"weights": model.state_dict(), "inputs": stream.inputs}
    found["cut"] = message_of(ranks_config(folder / "cut"), loss_fn=OnRankOne(5, "stop"))
    found["resumed"] = message_of(ranks_config(folder / "cut"))
    found["diverged"] = message_of(ranks_config(folder / "bad"), loss_fn=OnRankOne(6, "diverge"))
    drawing = Drawing()
    message_of(ranks_config(folder / "drawn"), loss_fn=drawing)
    found["draws"] = drawing.draws
    torch.save(found, folder / f"rank_{RANK}.pt")


if __name__ == "__main__":
    with open_world("cpu"):
        main(Path(sys.argv[1]))
