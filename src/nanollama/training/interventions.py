"""Interventions: what is done to a model at a chosen step of its training, as part of the config of the run.

A section ``interventions`` is a list of what to do and when. An intervention at step k acts when k steps are
done, after the checkpoint and the evaluation of that step, so that these show the model before it. What it
does to the weights is done once and is then in every checkpoint; what it does to the training (which
parameters learn) is done again whenever the run goes on after it, and what it does to the model's structure
(which parameters there are) also when a checkpoint is only read. A stopped run therefore ends with the same
bits as one that was not.

Parameters are named as in ``model.named_parameters()``, by patterns: ``blocks.1.*``, ``*embedding*``.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import nn

from nanollama.errors import UserError
from nanollama.monitor.checkpoint import FOLDER, MODEL, Checkpointer, find_checkpoint, read_optimizer
from nanollama.monitor.origin import origin_of, record_origin
from nanollama.monitor.run_folder import read_result
from nanollama.seeds import named_seed
from nanollama.training.intervention_config import (
    ForgetConfig,
    FreezeConfig,
    InterventionConfig,
    LoadConfig,
    ReinitializeConfig,
    Selection,
    UntieConfig,
)
from nanollama.training.tying import Tie, Untie, forget
from nanollama.wording import suggest

logger = logging.getLogger(__name__)


class Intervention(Protocol):
    """Something done to a model when ``at_step`` optimizer steps are done; see this module."""

    @property
    def at_step(self) -> int:
        """Optimizer steps done when it acts."""
        ...

    @property
    def where(self) -> str:
        """The key of the config that says so."""
        ...

    def check(self, model: nn.Module) -> None:
        """Raise a `UserError` if it cannot be done to this model; called before it is due."""
        ...

    def change_structure(self, model: nn.Module) -> None:
        """Change which parameters there are, and again each time a checkpoint from after it is read."""
        ...

    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Change values, once."""
        ...

    def change_training(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Change what learns, and again each time the run goes on."""
        ...


def build_interventions(configs: Sequence[InterventionConfig], seed: int) -> list[Intervention]:
    """What the sections of a config describe, in their order; those of the same step act in that order."""
    built: list[Intervention] = []
    for index, config in enumerate(configs):
        where = f"interventions.{index}"
        if isinstance(config, FreezeConfig):
            built.append(Freeze(config, where))
        elif isinstance(config, ForgetConfig):
            built.append(Forget(config, where))
        elif isinstance(config, ReinitializeConfig):
            built.append(Reinitialize(config, where, named_seed(seed, where)))
        elif isinstance(config, LoadConfig):
            built.append(Load(config, where))
        elif isinstance(config, UntieConfig):
            built.append(Untie(config, where))
        else:
            built.append(Tie(config, where))
    return built


def done_before(interventions: Sequence[Intervention], step: int) -> list[Intervention]:
    """Those that had acted when the checkpoint of a step was written, in the order in which they acted."""
    acted = (intervention for intervention in interventions if intervention.at_step < step)
    return sorted(acted, key=lambda one: one.at_step)


def restructure(interventions: Sequence[Intervention], model: nn.Module, step: int) -> None:
    """Give a model that was built from its config the parameters of the checkpoint of a step."""
    for intervention in done_before(interventions, step):
        intervention.change_structure(model)


def check_interventions(
    interventions: Sequence[Intervention],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    step: int,
) -> None:
    """Refuse what cannot be done, before the first is due.

    Args:
        interventions: all of a run.
        model: to be changed.
        optimizer: of the run; None when there is none yet.
        step: optimizer steps done; what was done before them is not checked again.

    Raises:
        UserError: one cannot be done to this model, or together they leave nothing to learn.
    """
    if not interventions:
        return
    outline = _without_values(model)
    for intervention in sorted(interventions, key=lambda one: one.at_step):
        if intervention.at_step >= step:
            intervention.check(outline)
            if isinstance(intervention, Load) and optimizer is not None:
                intervention.check_optimizer(optimizer)
        intervention.change_structure(outline)
        if isinstance(intervention, Freeze):
            for parameter in select(outline, intervention.config, intervention.where).values():
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in outline.parameters()):
            freezes = isinstance(intervention, Freeze)
            does = "freezes every parameter that still learns" if freezes else "ties what alone still learned"
            raise UserError(f"{intervention.where} {does}: nothing is left to learn.")


def _without_values(model: nn.Module) -> nn.Module:
    """A copy whose parameters take no memory."""
    empty = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=one.requires_grad)
        for one in model.parameters()
    }
    return copy.deepcopy(model, dict(empty))


def select(model: nn.Module, selection: Selection, where: str) -> dict[str, nn.Parameter]:
    """The parameters that a selection means, by name; a tied one under its first name.

    Raises:
        UserError: a pattern matches nothing, or nothing is left.
    """
    named = dict(model.named_parameters())
    for key, patterns in (("parameters", selection.parameters), ("but", selection.but)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in named):
                hint = suggest(pattern, named) or f"; they are {', '.join(named)}."
                raise UserError(f"{where}.{key}: {pattern!r} matches no parameter of the model{hint}")
    chosen = {
        name: parameter
        for name, parameter in named.items()
        if any(fnmatchcase(name, pattern) for pattern in selection.parameters)
        and not any(fnmatchcase(name, pattern) for pattern in selection.but)
    }
    if not chosen:
        raise UserError(
            f"{where}.but leaves no parameter out of {list(selection.parameters)}: nothing to do."
        )
    return chosen


class _Selecting:
    """What interventions in some of the parameters share."""

    config: Selection
    where: str

    @property
    def at_step(self) -> int:
        return self.config.at_step

    def check(self, model: nn.Module) -> None:
        select(model, self.config, self.where)

    def change_structure(self, model: nn.Module) -> None:
        pass

    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        pass

    def change_training(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        pass


@dataclass(frozen=True)
class Freeze(_Selecting):
    """See `FreezeConfig`. A frozen parameter has no gradient, so the optimizer leaves it, decay included."""

    config: FreezeConfig
    where: str

    def change_training(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for parameter in select(model, self.config, self.where).values():
            parameter.requires_grad_(False)
            parameter.grad = None


@dataclass(frozen=True)
class Forget(_Selecting):
    """See `ForgetConfig`."""

    config: ForgetConfig
    where: str

    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for parameter in select(model, self.config, self.where).values():
            forget(optimizer, parameter)


@dataclass(frozen=True)
class Reinitialize(_Selecting):
    """See `ReinitializeConfig`. The model must have ``init_weights(generator)``."""

    config: ReinitializeConfig
    where: str
    seed: int

    @torch.no_grad()
    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        fresh = copy.deepcopy(model).cpu()
        draw = getattr(fresh, "init_weights", None)
        assert callable(draw), f"{type(model).__name__} cannot draw its weights: it has no init_weights"
        draw(torch.Generator().manual_seed(self.seed))
        drawn = dict(fresh.named_parameters())
        for name, parameter in select(model, self.config, self.where).items():
            parameter.copy_(drawn[name])
            forget(optimizer, parameter)


@dataclass(frozen=True)
class Load(_Selecting):
    """See `LoadConfig`."""

    config: LoadConfig
    where: str

    def check(self, model: nn.Module) -> None:
        if not self.config.run.is_dir():
            raise UserError(
                f"{self.where}.run: there is no run folder {self.config.run} to start from; train it first, "
                "or name the folder of another run."
            )
        path = self.find()
        shapes = {name: tuple(tensor.shape) for name, tensor in load_file(path / MODEL).items()}
        check_fit(self.config, self.where, model, shapes, str(path))

    def find(self) -> Path:
        """The checkpoint to load.

        Raises:
            UserError: there is none that is intact, or the run finished at a later step than that of it.
        """
        run = self.config.run
        path, result = find_checkpoint(run), read_result(run)
        if result is None or result.status != "finished":
            return path
        if path != Checkpointer(run / FOLDER).path(result.step):
            raise UserError(
                f"{self.where}.run: {run} finished at step {result.step}, but its newest intact checkpoint "
                f"is {path.name}: train it anew with overwrite=true, or name the checkpoint, {path}."
            )
        return path

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise a `UserError` if what is to be taken is not there, or of an optimizer of another kind."""
        if not self.config.optimizer:
            return
        path = self.find()
        saved = _gathered(path, self.where)
        if ("betas" in saved["param_groups"][0]) != ("betas" in optimizer.param_groups[0]):
            raise UserError(
                f"{self.where}.optimizer: {path} was trained by another optimizer than this run's: leave it "
                "out, or set training.optimizer.implementation to that of the other run."
            )

    @torch.no_grad()
    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        path = self.find()
        saved, names = load_file(path / MODEL), names_of(model)
        for parameter in select(model, self.config, self.where).values():
            parameter.copy_(next(saved[name] for name in names[parameter] if name in saved))
            forget(optimizer, parameter)
        if self.config.optimizer:
            take_moments(optimizer, path, self.where)


def check_fit(
    config: LoadConfig, where: str, model: nn.Module, shapes: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Refuse to load what a model does not have, or has in another size.

    Args:
        config: says what is to be loaded.
        where: the key of the config that does.
        model: to be loaded into.
        shapes: of what can be loaded, by name.
        source: what has it, for messages.

    Raises:
        UserError: naming the first parameter.
    """
    names = names_of(model)
    for name, parameter in select(model, config, where).items():
        there = [one for one in names[parameter] if one in shapes]
        if not there:
            raise UserError(f"{where}.run: {source} has no parameter {name}, which the model has.")
        if len(there) > 1:
            raise UserError(
                f"{where}.run: the embeddings are two matrices in {source} and one in the model: set "
                "model.tied_embeddings=false, and leave it to an intervention `tie` to make them one."
            )
        if shapes[there[0]] != tuple(parameter.shape):
            raise UserError(
                f"{where}.run: {name} has shape {shapes[there[0]]} in {source} and "
                f"{tuple(parameter.shape)} in the model; leave it out by `but`, or give both one size."
            )


def note_origin(intervention: Intervention, folder: Path) -> None:
    """Say and write into a run folder which step of which run is about to be loaded, if one is."""
    if isinstance(intervention, Load):
        run, path = intervention.config.run, intervention.find()
        origin = origin_of(run, intervention.at_step, path)
        logger.info("%s loads %s, after step %d of its training.", intervention.where, run, origin.step)
        record_origin(folder, intervention.where, origin)


def names_of(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    """All names of each parameter; a tied one has several, by one of which it is saved."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names


def _gathered(checkpoint: Path, where: str) -> dict[str, Any]:
    saved = read_optimizer(checkpoint)
    if saved is None:
        raise UserError(
            f"{where}.optimizer: {checkpoint} was saved without an optimizer, as are runs that were "
            "imported, built by hand or trained by the Trainer of transformers: leave it out."
        )
    return saved


def take_moments(optimizer: torch.optim.Optimizer, checkpoint: Path, where: str) -> None:
    """Take what the optimizer of another run has gathered, and leave its learning rates.

    Raises:
        UserError: there is none, or its parameters are not of the same number and shapes.
    """
    saved = _gathered(checkpoint, where)
    theirs, own = saved["param_groups"], optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if [len(group["params"]) for group in theirs] != [len(group["params"]) for group in own] or not all(
        value.shape in (parameters[index].shape, ())
        for index, slot in saved["state"].items()
        for value in slot.values()
    ):
        raise UserError(
            f"{where}.optimizer: the optimizer of {checkpoint} knows other parameters than this run's: leave "
            "it out, or give both models the same ones."
        )
    # Optimizers number their parameters from 0; where the moments have to lie is known to them.
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own})
