"""Processes that train one model together, and the device each of them uses.

One process is the ordinary case: every function here is then free of effects. ``torchrun`` starts several,
each with its rank in the environment; they talk over NCCL on GPUs and Gloo on CPUs. A model too large for
one device would be sharded in `World.wrap`, the only place that knows how replicas are kept equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nanollama.errors import UserError

# The other ranks wait while rank 0 evaluates; only a hang lasts longer than this.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them.

    Args:
        device: where this process computes.
        rank: number of this process, 0 .. world_size - 1.
        world_size: number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Is this the process that writes?"""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, the same float64 bits in each of them."""
        if self.world_size == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def min(self, mine: int) -> int:
        """The smallest number of all processes."""
        if self.world_size == 1:
            return mine
        tensor = torch.tensor(mine, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
        return int(tensor)

    def any(self, mine: bool) -> bool:
        """Is it so in any process?"""
        return self.sum([mine])[0] > 0

    def wait(self) -> None:
        """Return when all processes have come this far."""
        if self.world_size > 1:
            dist.barrier()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model to call in training: its backward pass averages gradients over the processes."""
        if self.world_size == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None
        )


def choose_device(wanted: str, local_rank: int = 0, key: str = "training.device") -> torch.device:
    """The device of this process: ``auto`` is a GPU where there is one.

    Args:
        wanted: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        local_rank: number of this process on this machine; picks its GPU unless one is named.
        key: of the config, where it is asked for.

    Raises:
        UserError: a GPU is asked for that is not there.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and n_gpus == 0):
        return torch.device("cpu")
    index = torch.device(wanted).index if wanted.startswith("cuda:") else local_rank
    if index is None or index >= n_gpus:
        raise UserError(
            f"The device {wanted} needs GPU number {index or 0}, and torch finds {n_gpus} on this machine: "
            f"set {key}=cpu, or start fewer processes."
        )
    return torch.device("cuda", index)


@contextmanager
def open_world(device: str = "auto") -> Iterator[World]:
    """The world ``torchrun`` describes in the environment, or one process without it.

    Opened inside an open world it is that world: processes meet once and stay together for several runs.

    Args:
        device: see `choose_device`.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield World(choose_device(device))
        return
    own = choose_device(device, int(os.environ["LOCAL_RANK"]))
    if dist.is_initialized():
        yield World(own, dist.get_rank(), world_size)
        return
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield World(own, dist.get_rank(), world_size)
    finally:
        dist.destroy_process_group()
