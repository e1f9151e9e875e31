"""Training a model whose parameters, gradients and optimizer state are shared out over processes (FSDP2).

Each process holds a part of every parameter and gathers a block of the model when it is needed. Checkpoints
and evaluations are of the whole model, gathered at that moment: a checkpoint is the same as one of a single
process, and a run goes on with any number of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from nanollama.distributed import World

State = dict[str, Any]


class Shards:
    """The shared-out copy of a model, which is the one that learns.

    Args:
        whole: the plain model, filled again by `gather`; the processes have equal ones.
        world: the processes.
    """

    def __init__(self, whole: nn.Module, world: World) -> None:
        self._whole = whole
        self.model = copy.deepcopy(whole)
        mesh = init_device_mesh(world.device.type, (world.world_size,))
        for block in _blocks(self.model):
            fully_shard(block, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    @torch.no_grad()
    def gather(self) -> None:
        """Copy what was learned into the plain model; all processes call this together."""
        for whole, part in self._pairs():
            whole.copy_(_gathered(part))

    @torch.no_grad()
    def share_out(self) -> None:
        """Copy the plain model into the shared-out one; all processes call this together."""
        for whole, part in self._pairs():
            part.copy_(_shared_out(whole, part))

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self._whole.parameters(), self.model.parameters(), strict=True)
        yield from zip(self._whole.buffers(), self.model.buffers(), strict=True)


class WholeOptimizer:
    """Stands for an optimizer of shared-out parameters; its state is that of one process.

    Args:
        optimizer: of the shared-out parameters.
        state: the whole state, if it was gathered.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, state: State | None = None) -> None:
        self._optimizer = optimizer
        self._state = state

    @staticmethod
    def gather(optimizer: torch.optim.Optimizer) -> WholeOptimizer:
        """With the whole state as it is now; all processes call this together."""
        state = optimizer.state_dict()
        slots = {
            index: {name: _gathered(value) for name, value in slot.items()}
            for index, slot in state["state"].items()
        }
        return WholeOptimizer(optimizer, {**state, "state": slots})

    def state_dict(self) -> State:
        """The whole state that was gathered."""
        assert self._state is not None
        return self._state

    def load_state_dict(self, state_dict: State) -> None:
        """Take this process's share of a whole state; all processes call this together."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        indices = [index for group in state_dict["param_groups"] for index in group["params"]]
        by_index = dict(zip(indices, parameters, strict=True))
        slots = {
            index: {name: _shared_out(value, by_index[index]) for name, value in slot.items()}
            for index, slot in state_dict["state"].items()
        }
        self._optimizer.load_state_dict({**state_dict, "state": slots})


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model: what it repeats."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            yield from module


def _gathered(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _shared_out(value: Any, like: Tensor) -> Any:
    """A tensor of a parameter's shape, cut as the parameter is; anything else as it is."""
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value
