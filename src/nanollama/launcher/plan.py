"""From the arguments of a launching command to what is to be run: one run, or the runs of a grid.

A run may come after others in two ways.

- Made once before the whole grid, of another config: ``grid.needs``. `Plan.needs` has their plans,
  `Plan.needed` their runs, `GridRun.needs` their names. No run of the grid begins before all of them have
  finished. Before that, runs whose ``model.path`` is in the folder of one are not looked at: `Plan.awaits`.
- Loaded by one run, of another arm of the grid: ``starts_from``. `GridRun.after` has its name. That run alone
  waits for it, until a checkpoint of its own has what it loads: `nanollama.launcher.states.has_loaded`.

Here `local.needs` and `local.pool.Line` wait, on Slurm its dependencies ``afterok`` and ``aftercorr`` do. The
``parents`` of `nanollama.launcher.states.inspect` are those of both ways, with their states.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from nanollama import studies
from nanollama.config import RUNS, Config, ConfigPath, build_config
from nanollama.config.arguments import split_arguments
from nanollama.config.moved import check_place
from nanollama.config.source import Node, read_source
from nanollama.errors import ConfigError, UserError
from nanollama.launcher.grid import expand as grid
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.expect import Expectation, check_expectations, check_measures
from nanollama.launcher.grid.needs import NEEDS
from nanollama.launcher.settings import LOCAL, SLURM, LocalConfig, SlurmConfig
from nanollama.report.grouping import Setting, group_runs
from nanollama.wording import count, show, suggest

SCRIPT_KEY = "script="
ELSEWHERE = ("local.", "slurm.", "name=", "run_dir=", "overwrite=")
"""Keys that say where and how runs are made, not which."""
TRAIN = "train"
FACTS = ("loss", "step", "seconds", "n_params")
"""Numbers that a row of results has of every run of training."""


@dataclass(frozen=True)
class Plan:
    """What a launching command is to run.

    Args:
        name: of the grid, or of its only run.
        folder: of the grid, or of its only run.
        module: has the ``main(argv) -> int`` that a run is.
        runs: in the order in which they should be started; at least one.
        seed_key: the key that seeds of a grid are values of; None for a run alone.
        overwrite: start anew, removing what earlier runs wrote.
        local: how runs share this machine.
        slurm: what Slurm is asked for.
        expect: what has to come out.
        needs: what all runs come after, each a plan of one run; `runs` are without them.
        keys: those typed after the config that say which runs are made, as they were typed.
    """

    name: str
    folder: Path
    module: str
    runs: Sequence[GridRun]
    seed_key: str | None
    overwrite: bool
    local: LocalConfig
    slurm: SlurmConfig
    expect: Sequence[Expectation] = ()
    needs: Sequence[Plan] = ()
    keys: Sequence[str] = ()

    @property
    def study(self) -> str:
        """The study that the module is of."""
        return self.module.split(".")[1]

    @property
    def seeds(self) -> list[int]:
        """Those of a grid, in order."""
        found = {run.values.get(self.seed_key or "") for run in self.runs}
        return sorted(seed for seed in found if isinstance(seed, int))

    @property
    def told(self) -> str:
        """Which runs of its config they are, in a sentence: others of it may lie in the same folder."""
        parts = [f"seeds {name_seeds(self.seeds)}"] if self.seeds else []
        parts += [f"with {' '.join(f'`{key}`' for key in self.keys)}"] if self.keys else []
        return f"Of {count(len(self.runs), 'run')}{''.join(f', {part}' for part in parts)}."

    @property
    def needed(self) -> list[GridRun]:
        """The runs that all others come after."""
        return [run for need in self.needs for run in need.runs]

    @cached_property
    def by_name(self) -> dict[str, GridRun]:
        """The runs by their names, those that are needed too."""
        return {run.name: run for run in (*self.needed, *self.runs)}

    @cached_property
    def settings(self) -> list[Setting[GridRun]]:
        """The runs by all that varies but the seed."""
        return group_runs(self.runs, [run.values for run in self.runs], (self.seed_key,))

    def find(self, name: str) -> GridRun:
        """The run of a name.

        Raises:
            UserError: there is none.
        """
        if name not in self.by_name:
            hint = suggest(name, self.by_name) or "; `nanollama grid status` lists its runs."
            raise UserError(f"The grid '{self.name}' has no run '{name}'{hint}")
        return self.by_name[name]

    def awaits(self, run: GridRun) -> bool:
        """Will the model that a run starts from be left by a run that is needed, and is not there yet?"""
        path = getattr(run.model, "path", None)
        if path is None or os.path.exists(path):
            return False
        place = Path(os.path.abspath(path))
        return any(place.is_relative_to(os.path.abspath(needed.folder)) for needed in self.needed)


def name_seeds(seeds: Sequence[int]) -> str:
    """``100 to 119`` or ``0, 2, 3``."""
    is_range = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]} to {seeds[-1]}" if is_range else ", ".join(map(str, seeds))


class LaunchKeys(Config):
    """The keys of a config that its launching depends on, beside the section ``grid``."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    run_dir: ConfigPath | None = None
    overwrite: bool = False
    local: LocalConfig = LocalConfig()
    slurm: SlurmConfig = SlurmConfig()
    expect: tuple[Expectation, ...] = ()


def read_plan(argv: Sequence[str]) -> Plan:
    """What ``[config=]PATH [script=MODULE] [key=value ...]`` describes; everything in it is validated.

    Raises:
        UserError: the config, its grid, one of its runs, what it needs or the script is wrong.
    """
    return _read(argv)


def _read(argv: Sequence[str], grid_keys: LaunchKeys | None = None) -> Plan:
    """See `read_plan`; with the keys of a grid, of a run that this grid needs."""
    scripts = [item.removeprefix(SCRIPT_KEY) for item in argv if item.startswith(SCRIPT_KEY)]
    arguments = [item for item in argv if not item.startswith(SCRIPT_KEY)]
    source = read_source(arguments)
    study = studies.study_of(arguments)
    module = scripts[-1] if scripts else f"{studies.APPS}.{study}.{TRAIN}"
    config_class = _config_class(module, study)
    section, base = _split(source, config_class)
    keys = build_config(LaunchKeys, _only(source, *LaunchKeys.model_fields))
    if grid_keys is not None:
        keys = _as_needed(keys, grid_keys, section)
    name = keys.name or module.removeprefix(f"{studies.APPS}.")
    folder = keys.run_dir or RUNS / name
    seed_key, needs = None, list[Plan]()
    if section is not None:
        seed_key = grid.read_grid_config(section).seed_key
        needs = _read_needs(section, keys, folder)
        names = tuple(need.name for need in needs)
        runs = grid.expand(section, base, config_class, folder, names)
        if same := [run.name for run in runs if run.name in names]:
            raise ConfigError(
                f"{section.place}: {grid.SECTION}.{NEEDS}: a run of the grid is called '{same[0]}' as well: "
                "give the run that is needed another `name`."
            )
    else:
        check_place(arguments, folder)
        runs = [GridRun(name, folder, build_config(config_class, base), {})]
    check_expectations(keys.expect, runs, seed_key or "")
    if module == f"{studies.APPS}.{study}.{TRAIN}":
        check_measures(keys.expect, studies.find_study(study).measured, [*FACTS, *runs[0].values])
    return Plan(
        name=name,
        folder=folder,
        module=module,
        runs=runs,
        seed_key=seed_key,
        overwrite=keys.overwrite,
        local=keys.local,
        slurm=keys.slurm,
        expect=keys.expect,
        needs=needs,
        keys=[key for key in split_arguments(arguments)[1] if not key.startswith(ELSEWHERE)],
    )


def read_grid(argv: Sequence[str]) -> Plan:
    """`read_plan` of a config that has a section ``grid``.

    Raises:
        UserError: as for `read_plan`, or there is no grid.
    """
    plan = read_plan(argv)
    if plan.seed_key is None:
        raise UserError(
            f"The config of '{plan.name}' has no section `grid`: add one, or run it alone with "
            f"`python -m {plan.module}`."
        )
    return plan


def _read_needs(section: Node, keys: LaunchKeys, folder: Path) -> list[Plan]:
    """What a grid needs, each a plan of one run.

    Args:
        section: the section ``grid``.
        keys: of the grid.
        folder: of the grid.

    Raises:
        ConfigError: one of them is wrong; a line for each problem says where it is asked for.
    """
    plans: list[Plan] = []
    for index, need in enumerate(grid.read_grid_config(section).needs):
        node = section.value[NEEDS].value[index]
        try:
            plan = _read(need.arguments(node), keys)
            if not plan.runs[0].trains:
                raise UserError(
                    "expected a run of training: the folder of another does not tell when it has finished."
                )
            _check_place(plan, plans, folder)
        except UserError as error:
            where = node.place.of(f"{grid.SECTION}.{NEEDS}.{index}")
            lines = (f"{where}: {line}" for line in str(error).splitlines())
            raise ConfigError("\n".join(lines)) from None
        plans.append(plan)
    return plans


def _check_place(need: Plan, others: Sequence[Plan], folder: Path) -> None:
    """Refuse a run that is needed where another one or the grid has its folder.

    Raises:
        UserError: naming both.
    """
    place, grid_place = (Path(os.path.abspath(path)) for path in (need.folder, folder))
    for other in others:
        if need.name == other.name:
            raise UserError(f"the run '{need.name}' is needed twice; keep one of them.")
        if place == Path(os.path.abspath(other.folder)):
            raise UserError(f"its folder {need.folder} is that of '{other.name}': give it another `run_dir`.")
    if place.is_relative_to(grid_place) or grid_place.is_relative_to(place):
        around = "in" if place.is_relative_to(grid_place) else "around"
        raise UserError(
            f"its folder {need.folder} is {around} that of the grid, {folder}: expected one of its own, "
            "by its `name` or `run_dir`."
        )


def _as_needed(keys: LaunchKeys, grid_keys: LaunchKeys, section: Node | None) -> LaunchKeys:
    """How a run is launched that a grid needs: alone, never anew, where the grid is.

    Raises:
        UserError: it is a grid.
    """
    if section is not None:
        raise UserError("expected the config of a single run, but it has a section `grid`.")
    gpus = keys.local.gpus or grid_keys.local.gpus
    slurm = keys.slurm if SLURM in keys.model_fields_set else grid_keys.slurm
    return keys.model_copy(
        update={
            "overwrite": False,
            "local": keys.local.model_copy(update={"n_jobs": 1, "gpus": gpus}),
            "slurm": slurm.model_copy(update={"evaluate": None}),
        }
    )


def _config_class(module: str, study: str) -> type[Config]:
    """The class of the configs that a script takes: that of its verb."""
    apps, _, rest = module.partition(".")
    owner, _, verb = rest.partition(".")  # a verb may lie in a folder of its study
    if apps != studies.APPS or not owner or not verb:
        raise UserError(
            f"script={module}: expected a module of the form {studies.APPS}.<study>.<verb>, "
            f"such as {studies.APPS}.{study}.{TRAIN}."
        )
    if owner != study:
        raise UserError(f"script={module}: is of the study '{owner}', but the config is of '{study}'.")
    classes = studies.find_study(study).configs
    if verb not in classes or importlib.util.find_spec(module) is None:
        hint = suggest(verb, classes) or f" (known: {', '.join(classes)})."
        raise UserError(f"script={module}: the study '{study}' has no verb '{verb}' to launch{hint}")
    return classes[verb]


def _split(source: Node, config_class: type[Config]) -> tuple[Node | None, Node]:
    """The section ``grid``, and the config without what is about launching and no key of its class."""
    for name in (grid.SECTION, LOCAL, SLURM):
        node = source.value.get(name)
        if node is not None and not isinstance(node.value, dict):
            raise ConfigError(f"{node.place.of(name)}: expected a section, got {show(node.plain())}.")
    about_launching = {grid.SECTION, *LaunchKeys.model_fields} - config_class.model_fields.keys()
    rest = [name for name in source.value if name not in about_launching]
    return source.value.get(grid.SECTION), _only(source, *rest)


def _only(source: Node, *names: str) -> Node:
    return Node({name: node for name, node in source.value.items() if name in names}, source.place)
