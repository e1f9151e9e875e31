"""Untie the input and output embeddings of a model while it is trained, or tie them.

A tied model owns one matrix, which is one entry of the optimizer; untying makes a second one of it, behind
the others of its group, and tying leaves one. So the parameters of a run can change on the way: whoever
builds its model from the config calls `nanollama.training.interventions.restructure` before reading weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nanollama.errors import UserError
from nanollama.model.shell import Shell
from nanollama.training.intervention_config import TieConfig, UntieConfig


def forget(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> None:
    """Set what an optimizer has gathered about a parameter (moments, its count of steps) back to zero."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, torch.Tensor):
            value.zero_()


@dataclass(frozen=True)
class Untie:
    """See `UntieConfig`."""

    config: UntieConfig
    where: str

    @property
    def at_step(self) -> int:
        return self.config.at_step

    def check(self, model: nn.Module) -> None:
        if not _shell(model, self.where).is_tied:
            raise UserError(
                f"{self.where}: the embeddings are not tied at step {self.at_step}, so cannot be untied: "
                "set model.tied_embeddings=true, or leave this intervention out."
            )

    def change_structure(self, model: nn.Module) -> None:
        _shell(model, self.where).untie()

    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """One matrix becomes two equal ones, and the loss stays what it was."""
        shell = _shell(model, self.where)
        self.change_training(shell, optimizer)
        first, second = shell.embedding.weight, shell.head.weight
        if first in optimizer.state:
            optimizer.state[second] = {
                name: value.clone() if isinstance(value, torch.Tensor) else value
                for name, value in optimizer.state[first].items()
            }
        # Empty is zero, not absent: SGD wants a momentum of all its parameters or of none.
        if self.config.moments != "copied":
            forget(optimizer, second)
        if self.config.moments == "both_empty":
            forget(optimizer, first)

    def change_training(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        shell = _shell(model, self.where)
        if not shell.is_tied:
            return
        first = shell.embedding.weight
        self.change_structure(shell)
        (group,) = (group for group in optimizer.param_groups if any(one is first for one in group["params"]))
        group["params"].append(shell.head.weight)


@dataclass(frozen=True)
class Tie:
    """See `TieConfig`."""

    config: TieConfig
    where: str

    @property
    def at_step(self) -> int:
        return self.config.at_step

    def check(self, model: nn.Module) -> None:
        if _shell(model, self.where).is_tied:
            raise UserError(
                f"{self.where}: the embeddings are tied already at step {self.at_step}: "
                "set model.tied_embeddings=false, or leave this intervention out."
            )

    def change_structure(self, model: nn.Module) -> None:
        """The matrix that stays is that of the output, so it learns where that one did."""
        shell = _shell(model, self.where)
        learns = shell.head.weight.requires_grad
        shell.tie()
        shell.embedding.weight.requires_grad_(learns)

    @torch.no_grad()
    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        shell = _shell(model, self.where)
        first, second = shell.embedding.weight, shell.head.weight
        first.copy_(second)
        if second in optimizer.state:
            optimizer.state[first] = optimizer.state[second]
        else:
            forget(optimizer, first)
        self.change_training(shell, optimizer)

    def change_training(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        shell = _shell(model, self.where)
        if shell.is_tied:
            return
        second = shell.head.weight
        self.change_structure(shell)
        for group in optimizer.param_groups:
            group["params"] = [one for one in group["params"] if one is not second]
        optimizer.state.pop(second, None)


def _shell(model: nn.Module, where: str) -> Shell:
    if not isinstance(model, Shell):
        raise UserError(
            f"{where}: only embeddings of a model of ours can be tied or untied on the way, and this is a "
            f"{type(model).__name__}: leave it out, or choose another model.implementation."
        )
    return model
