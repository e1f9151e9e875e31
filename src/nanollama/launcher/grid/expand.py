"""A grid: one config that describes many runs.

The section ``grid`` of a config lists values for keys of the rest. Every combination of the lists under
``product``, of the positions of each group under ``zip`` and of the ``seeds`` is a run, unless ``exclude``
names it::

    grid:
      product:
        model.d_model: [16, 36]
        data.n_examples: [32, 64, 128]
      zip:
        - {model.n_layers: [1, 2], model.n_heads: [2, 4]}
      seeds: 3
      exclude:
        - {model.d_model: 16, data.n_examples: [64, 128]}

That is 2 x 3 x 2 x 3 runs less 12. Under ``arms`` there may be kinds of runs with names, see
`nanollama.launcher.grid.arms`; a run comes after those that it starts from, and all come after what the grid
``needs``, see `nanollama.launcher.grid.needs`. Seeds vary slowest: a grid that
is half done has all settings of the first seeds. Each run is a full config, validated before anything
starts, with a name that says its values and a folder ``runs/<name of the grid>/<name of the run>``.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from nanollama.config import Config, build_config, config_hash
from nanollama.config.source import Node, Place, set_node
from nanollama.errors import ConfigError
from nanollama.launcher.grid.arms import ARM, ARMS, Arm, ArmConfig, ArmName, read_arms
from nanollama.launcher.grid.exclude import Exclusions
from nanollama.launcher.grid.layers import Layers
from nanollama.launcher.grid.names import name_runs
from nanollama.launcher.grid.needs import NeedConfig
from nanollama.model import ModelSection
from nanollama.report.grouping import show_value
from nanollama.training.config import TrainingConfig
from nanollama.wording import show

SECTION = "grid"
MAX_RUNS = 100_000
MAX_PROBLEMS = 20

Values = tuple[Any, ...]


class GridConfig(Config):
    """What varies between the runs of a grid."""

    product: dict[str, Values] = Field(
        default={}, description="Values of dotted keys, of which every combination is run."
    )
    zip: tuple[Annotated[dict[str, Values], Field(min_length=1)], ...] = Field(
        default=(), description="Groups of keys whose values change together: first with first, and so on."
    )
    arms: dict[ArmName, ArmConfig] = Field(
        default={}, description="Kinds of runs by name: what each sets, and which it starts from."
    )
    seeds: Annotated[int, Field(ge=1)] | Annotated[tuple[int, ...], Field(min_length=1)] | None = Field(
        default=None, description="Seeds of every setting, or how many: 3 means 0, 1, 2."
    )
    seed_key: str = Field(default="training.seed", description="Key that the seeds are values of.")
    exclude: tuple[Annotated[dict[str, Any], Field(min_length=1)], ...] = Field(
        default=(), description="Runs to leave out: those with all of these values; a list means any of it."
    )
    needs: tuple[NeedConfig, ...] = Field(
        default=(), description="Runs of other kinds that all of these come after, each made once."
    )


class _Holder(Config):
    """What a grid stands in, for messages that name its keys from the top."""

    grid: GridConfig


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Args:
        name: says the values that vary; unique within the grid.
        folder: of the run.
        config: full and validated.
        values: what varies, by dotted key; the name of its arm under ``arm``.
        after: names of the runs that it starts from, which come before it.
        needs: names of the runs of other kinds that the whole grid comes after.
    """

    name: str
    folder: Path
    config: Config
    values: Mapping[str, Any]
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Is it a run of training, which leaves a result and can go on where it stopped?"""
        return "training" in type(self.config).model_fields

    @property
    def training(self) -> TrainingConfig | None:
        """How it is trained, if it is a run of training."""
        section = getattr(self.config, "training", None)
        return section if isinstance(section, TrainingConfig) else None

    @property
    def model(self) -> ModelSection | None:
        """What it trains, if its config has a model."""
        section: ModelSection | None = getattr(self.config, "model", None)
        return section

    @cached_property
    def id(self) -> str:
        """The hash of the resolved config; ``result.json`` names it."""
        return config_hash(self.config)


@dataclass(frozen=True)
class Axis:
    """Keys that change together, and the values they take.

    Args:
        keys: dotted.
        points: one node a key, for each position on the axis.
    """

    keys: tuple[str, ...]
    points: tuple[tuple[Node, ...], ...]


def expand(
    section: Node, base: Node, config_class: type[Config], folder: Path, needs: tuple[str, ...] = ()
) -> list[GridRun]:
    """All runs of a grid, in the order in which they should be started.

    Args:
        section: the section ``grid``.
        base: the config without it.
        config_class: of the runs; it has the keys ``name``, ``run_dir`` and ``overwrite``.
        folder: of the grid.
        needs: names of the runs that all of these come after.

    Raises:
        ConfigError: the grid is empty or contradicts itself, or a run's config is wrong.
    """
    grid = read_grid_config(section)
    arms = read_arms(section, config_class)
    axes = _read_axes(grid, section, arms)
    varied = {
        key: [point[column] for point in axis.points] for axis in axes for column, key in enumerate(axis.keys)
    }
    points = Exclusions(section, varied).apply(_points(axes, section.place))
    if not points:
        raise ConfigError(f"{section.place}: {SECTION}: every run is excluded; expected at least one run.")
    by_speed = [*axes[1:], axes[0]] if grid.seeds is not None else axes
    names = name_runs([key for axis in by_speed for key in axis.keys], points)
    parents = _find_parents(arms, points, names)
    runs, problems = [], _Problems()
    base = set_node(base, "overwrite", Node(False, base.place))
    layers = Layers(base, arms)
    with uncollected():
        for name, point, parent in zip(names, points, parents, strict=True):
            run_dir = folder / name
            own = {"name": Node(name, base.place), "run_dir": Node(str(run_dir), base.place)}
            tree = layers.under(point)
            tree = Node({**tree.value, **own}, tree.place)
            if parent is not None:
                tree = arms[point[ARM].value].start_from(tree, folder / parent)
            try:
                config = build_config(config_class, tree)
            except ConfigError as error:
                problems.add(str(error), name)
                continue
            values = {key: node.plain() for key, node in point.items()}
            after = () if parent is None else (parent,)
            runs.append(GridRun(name, run_dir, config, values, after, needs))
    problems.check()
    _check_different(runs, section.place)
    return runs


def _find_parents(
    arms: Mapping[str, Arm], points: Sequence[Mapping[str, Node]], names: Sequence[str]
) -> list[str | None]:
    """The name of the run that each run starts from: of another arm, and the same on all other axes."""
    found: dict[tuple[int, ...], dict[str, str]] = {}  # by identity: points share the nodes of their axes
    parents: list[str | None] = []
    for name, point in zip(names, points, strict=True) if arms else ():
        same = found.setdefault(tuple(id(node) for key, node in point.items() if key != ARM), {})
        arm = arms[point[ARM].value]
        same[arm.name] = name
        if arm.parent is not None and arm.parent not in same:
            raise ConfigError(
                f"{arm.start.place}: grid.exclude leaves out the run of the arm '{arm.parent}' that the run "
                f"{name} starts from: keep both, or leave out both."
            )
        parents.append(None if arm.parent is None else same[arm.parent])
    return parents or [None] * len(points)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through the configs of all runs again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_grid_config(section: Node) -> GridConfig:
    """The section ``grid``, validated.

    Raises:
        ConfigError: every problem of it.
    """
    return build_config(_Holder, Node({SECTION: section}, section.place)).grid


class _Problems:
    """What is wrong with the runs of a grid: each problem once, with the first run that has it."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def add(self, text: str, run: str) -> None:
        for line in text.splitlines():
            self._first.setdefault(line, run)
        if len(self._first) >= MAX_PROBLEMS:
            self.check()

    def check(self) -> None:
        if self._first:
            lines = (f"{line} [first in run {run}]" for line, run in self._first.items())
            raise ConfigError("\n".join(lines))


def _read_axes(grid: GridConfig, section: Node, arms: Mapping[str, Arm]) -> list[Axis]:
    """The axes of a grid, slowest first; no key twice, no value twice."""
    axes = []
    if grid.seeds is not None:
        node = section.value["seeds"]
        seeds = node.value if isinstance(node.value, list) else _count(node)
        axes.append(Axis((grid.seed_key,), tuple((seed,) for seed in seeds)))
    if arms:
        axes.append(Axis((ARM,), tuple((Node(arm.name, arm.place),) for arm in arms.values())))
    if grid.product:
        for key, node in section.value["product"].value.items():
            axes.append(Axis((key,), tuple((value,) for value in node.value)))
    for group in section.value["zip"].value if grid.zip else ():
        lengths = {key: len(node.value) for key, node in group.value.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            raise ConfigError(f"{group.place}: grid.zip: expected lists of one length, but {counts} values.")
        columns = [node.value for node in group.value.values()]
        axes.append(Axis(tuple(lengths), tuple(zip(*columns, strict=True))))
    _check_axes(axes, section.place)
    _check_arms(arms, axes)
    return axes


def _count(node: Node) -> list[Node]:
    if node.value > MAX_RUNS:
        raise ConfigError(f"{node.place}: grid.seeds: expected at most {MAX_RUNS:,} seeds, got {node.value}.")
    return [Node(seed, node.place) for seed in range(node.value)]


def _check_axes(axes: Sequence[Axis], place: Place) -> None:
    if not axes:
        raise ConfigError(
            f"{place}: grid: is empty; expected values under `product` or `zip`, a number of `seeds`, or "
            "`arms`."
        )
    _check_keys([key for axis in axes for key in axis.keys], f"{place}: grid")
    for axis in axes:
        if not axis.points:
            raise ConfigError(
                f"{place}: grid: the key '{axis.keys[0]}' has no values; expected at least one."
            )
        seen: set[str] = set()
        for point in axis.points:
            values = [node.plain() for node in point]
            identity = show_value(values)
            if identity in seen:
                text = ", ".join(f"{key} = {show(v)}" for key, v in zip(axis.keys, values, strict=True))
                raise ConfigError(f"{point[0].place}: grid: {text} is given twice; keep one of them.")
            seen.add(identity)


def _check_keys(keys: Sequence[str], where: str) -> None:
    """Refuse keys that are set twice, as a whole and in part, or that a grid sets itself."""
    for key, n_times in Counter(keys).items():
        if n_times > 1:
            raise ConfigError(f"{where}: the key '{key}' is given twice; keep one of them.")
        if key == "study":
            raise ConfigError(
                f"{where}: the key 'study' cannot vary: all runs of a grid are of one study; write a config "
                "for each."
            )
        if key in ("name", "run_dir", "overwrite"):
            raise ConfigError(f"{where}: the key '{key}' cannot vary: the grid sets it for each run.")
    for outer, inner in itertools.permutations(keys, 2):
        if inner.startswith(f"{outer}."):
            raise ConfigError(f"{where}: '{inner}' is a part of '{outer}'; only one of them can vary.")


def _check_arms(arms: Mapping[str, Arm], axes: Sequence[Axis]) -> None:
    varied = [key for axis in axes for key in axis.keys]
    for arm in arms.values():
        _check_keys([*arm.keys, *varied], f"{arm.place}: grid.{ARMS}.{arm.name}")


def _points(axes: Sequence[Axis], place: Place) -> list[Mapping[str, Node]]:
    n_runs = math.prod(len(axis.points) for axis in axes)
    if n_runs > MAX_RUNS:
        raise ConfigError(f"{place}: grid: describes {n_runs:,} runs; expected at most {MAX_RUNS:,}.")
    keys = [key for axis in axes for key in axis.keys]
    return [
        dict(zip(keys, itertools.chain.from_iterable(nodes), strict=True))
        for nodes in itertools.product(*(axis.points for axis in axes))
    ]


def _check_different(runs: Sequence[GridRun], place: Place) -> None:
    """Refuse two runs whose configs differ in nothing but their names."""
    seen: dict[str, str] = {}
    for run in runs:
        plain = run.config.model_dump_json(exclude={"name", "run_dir"})
        if plain in seen:
            raise ConfigError(f"{place}: grid: the runs {seen[plain]} and {run.name} are the same.")
        seen[plain] = run.name
