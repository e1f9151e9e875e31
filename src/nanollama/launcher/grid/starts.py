"""Whether what a grid does to its models can be done, seen on models without weights before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanollama.errors import UserError
from nanollama.launcher.grid.arms import INTERVENTIONS
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.model import outline
from nanollama.training.intervention_config import LoadConfig

if TYPE_CHECKING:  # most grids change no model, and do not wait for torch
    import torch
    from torch import nn


@dataclass(frozen=True)
class PlannedLoad:
    """An intervention `load` before there is what it loads.

    Args:
        config: of it.
        where: the key of the config that says so.
        parent: the run to load, where the grid has it.
    """

    config: LoadConfig
    where: str
    parent: GridRun | None

    @property
    def at_step(self) -> int:
        """Optimizer steps done when it acts."""
        return self.config.at_step

    def check(self, model: nn.Module) -> None:
        """Raise a `UserError` if a pattern is wrong, or the other run will not have what is wanted."""
        from nanollama.training.interventions import check_fit, select

        if self.parent is None:
            select(model, self.config, self.where)
        else:
            shapes = _shapes_at_the_end(self.parent)
            check_fit(self.config, self.where, model, shapes, f"the run {self.parent.name}")

    def change_structure(self, model: nn.Module) -> None:
        """It changes none."""

    def change_weights(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """There are none."""

    def change_training(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """It changes none."""


def check_starts(plan: Plan) -> None:
    """Refuse interventions that cannot be done to the models of the runs, of each kind of run one.

    A model that a needed run has not left yet is not looked at.

    Raises:
        UserError: naming the first run, and the pattern or the parameter.
    """
    seen: set[tuple[str, ...]] = set()
    for run in plan.runs:
        if not getattr(run.config, INTERVENTIONS, ()) or run.model is None:
            continue
        if plan.awaits(run):
            continue
        parent = plan.by_name[run.after[0]] if run.after else None
        key = (_shown(run), "" if parent is None else _shown(parent))
        if key not in seen:
            seen.add(key)
            try:
                _check(run, parent)
            except UserError as error:
                raise UserError(f"The run {run.name} cannot be done: {error}") from error


def _shown(run: GridRun) -> str:
    """What the check depends on."""
    config: Any = run.config
    others = [one.model_dump_json(exclude={"run"}) for one in config.interventions]
    return "\n".join([config.model.model_dump_json(), str(config.training.n_steps), *others])


def _check(run: GridRun, parent: GridRun | None) -> None:
    from nanollama.training.interventions import Load, build_interventions, check_interventions

    config: Any = run.config
    planned = [
        PlannedLoad(one.config, one.where, parent if place == 0 else None) if isinstance(one, Load) else one
        for place, one in enumerate(build_interventions(config.interventions, seed=0))
    ]
    check_interventions(planned, outline(config.model), None, step=0)


def _shapes_at_the_end(run: GridRun) -> dict[str, tuple[int, ...]]:
    """Of the parameters in the last checkpoint of a run, by name; a tied one is there once."""
    from nanollama.training.interventions import build_interventions, restructure

    config: Any = run.config
    model = outline(config.model)
    restructure(build_interventions(config.interventions, seed=0), model, config.training.n_steps)
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)] = min(name, names.get(id(parameter), name))  # that of several which is saved
    return {name: tuple(model.get_parameter(name).shape) for name in names.values()}
