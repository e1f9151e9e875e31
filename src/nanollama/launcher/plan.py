"""From the arguments of a launching command to what is to be run: one run, or the runs of a grid."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from nanollama import studies
from nanollama.config import RUNS, Config, ConfigPath, build_config
from nanollama.config.source import Node, read_source
from nanollama.errors import ConfigError, UserError
from nanollama.launcher.grid import expand as grid
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.expect import Expectation, check_expectations, check_measures
from nanollama.launcher.settings import LOCAL, SLURM, LocalConfig, SlurmConfig
from nanollama.report.grouping import Setting, group_runs
from nanollama.wording import show, suggest

SCRIPT_KEY = "script="
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

    @property
    def study(self) -> str:
        """The study that the module is of."""
        return self.module.split(".")[1]

    @cached_property
    def by_name(self) -> dict[str, GridRun]:
        """The runs by their names."""
        return {run.name: run for run in self.runs}

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
        UserError: the config, its grid, one of its runs or the script is wrong.
    """
    scripts = [item.removeprefix(SCRIPT_KEY) for item in argv if item.startswith(SCRIPT_KEY)]
    arguments = [item for item in argv if not item.startswith(SCRIPT_KEY)]
    source = read_source(arguments)
    study = studies.study_of(arguments)
    module = scripts[-1] if scripts else f"{studies.APPS}.{study}.{TRAIN}"
    config_class = _config_class(module, study)
    section, base = _split(source, config_class)
    keys = build_config(LaunchKeys, _only(source, *LaunchKeys.model_fields))
    name = keys.name or module.removeprefix(f"{studies.APPS}.")
    folder = keys.run_dir or RUNS / name
    if section is not None:
        runs = grid.expand(section, base, config_class, folder)
    else:
        runs = [GridRun(name, folder, build_config(config_class, base), {})]
    seed_key = None if section is None else grid.read_grid_config(section).seed_key
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
