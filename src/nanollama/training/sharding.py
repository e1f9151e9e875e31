"""Training a model whose parameters, gradients and optimizer state are shared out over processes (FSDP2).

Each process holds a part of every parameter and gathers a block of the model when it is needed. Checkpoints
and evaluations are of the whole model, which only the first process puts together, for as long as it takes: a
checkpoint is the same as one of a single process, and a run goes on with any number of them.
`torch.distributed.checkpoint.state_dict` does this for models too, but names the optimizer's state in another
way than one process does, and takes a step to make it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nanollama.distributed import World
from nanollama.model.protocol import LanguageModel

State = dict[str, Any]


class Shards:
    """A model that is shared out, in place.

    Args:
        model: the processes have equal ones.
        world: the processes.
    """

    def __init__(self, model: LanguageModel, world: World) -> None:
        # Here, as they take a second: who trains nothing does without, others import them with an optimizer.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # All but the parameters: what a whole model is made around. Copied before layers become shared ones.
        outline = {id(whole): _on_meta(whole) for whole in model.parameters()}
        self._outline = copy.deepcopy(model, dict(outline)) if world.is_main else None
        self._model = model
        mesh = init_device_mesh(world.device.type, (world.world_size,))
        for block in _blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    @torch.no_grad()
    def whole(self) -> LanguageModel | None:
        """The plain model as it is now, in the first process; all call this together."""
        if self._outline is None:
            for part in self._model.parameters():
                gathered(part)
            return None
        pairs = zip(self._outline.parameters(), self._model.parameters(), strict=True)
        wholes = {id(empty): nn.Parameter(gathered(part).clone()) for empty, part in pairs}
        return copy.deepcopy(self._outline, dict(wholes))

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take each process's share of whole weights, a tied one under any of its names."""
        for name, part in self._model.named_parameters(remove_duplicate=False):
            if name in weights:
                part.copy_(_shared_out(weights[name], part))


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
            index: {name: gathered(value) for name, value in slot.items()}
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


def _on_meta(parameter: Tensor) -> nn.Parameter:
    """A parameter of the same shape that takes no memory."""
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model: what it repeats."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            yield from module


def gathered(value: Any) -> Any:
    """A tensor that is shared out, whole; anything else as it is."""
    return value.full_tensor() if _is_shared_out(value) else value


def _is_shared_out(value: Any) -> bool:
    """Nothing is before the module is imported that shares out."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def _shared_out(value: Any, like: Tensor) -> Any:
    """A tensor of a parameter's shape, cut as the parameter is; anything else as it is."""
    if _is_shared_out(like) and isinstance(value, Tensor) and value.shape == like.shape:
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(like, DTensor)
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value
