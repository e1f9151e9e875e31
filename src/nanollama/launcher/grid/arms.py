"""Arms of a grid: kinds of runs with names, of which one may start from what another has learned.

The section ``arms`` of a grid is an axis like any other; its values are names, each with what it sets::

    grid:
      arms:
        source: {data.tasks: [{implementation: polynomial, problem_token: 33}], training.n_steps: 2000}
        scratch: {}
        transfer: {starts_from: source}
      seeds: 5

A run of an arm that ``starts_from`` another begins with the weights of the newest checkpoint of the other
arm's run with the same values on all other axes. Its config says so: it has an intervention ``load`` at step
0, so the run can also be started by itself. ``starts_from: {arm: source, but: [head.*]}`` leaves parameters
out, ``{arm: source, optimizer: true}`` also takes the moments of the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag

from nanollama.config import Config
from nanollama.config.source import Node, Place, set_node
from nanollama.errors import ConfigError
from nanollama.wording import suggest

ARMS, ARM, STARTS_FROM = "arms", "arm", "starts_from"
INTERVENTIONS = "interventions"

ArmName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class StartConfig(Config):
    """What a run takes from the run that it starts from."""

    arm: str = Field(description="Arm whose run with the same values of all else is started from.")
    parameters: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Patterns of parameter names to take."
    )
    but: tuple[str, ...] = Field(default=(), description="Patterns of parameter names to leave out.")
    optimizer: bool = Field(default=False, description="Also take what the optimizer has gathered.")


def _kind_of_start(value: Any) -> str:
    return "name" if isinstance(value, str) else StartConfig.__name__


class ArmConfig(Config):
    """One arm: dotted keys of the runs' configs with the values that it sets, and where its runs start."""

    model_config = ConfigDict(extra="allow")

    starts_from: (
        Annotated[
            Annotated[str, Tag("name")] | Annotated[StartConfig, Tag(StartConfig.__name__)],
            Discriminator(_kind_of_start),
        ]
        | None
    ) = Field(default=None, description="Arm that its runs start from.")


@dataclass(frozen=True)
class Arm:
    """One arm.

    Args:
        name: within the grid.
        place: where it was written.
        keys: what it sets, by dotted key.
        parent: name of the arm that its runs start from.
        start: where that was written, with the options of the intervention `load`.
    """

    name: str
    place: Place
    keys: Mapping[str, Node]
    parent: str | None
    start: Node

    def lay_over(self, tree: Node) -> Node:
        """The config with what this arm sets."""
        for key, node in self.keys.items():
            tree = set_node(tree, key, node)
        return tree

    def start_from(self, tree: Node, folder: Path) -> Node:
        """The config with an intervention more, before all others: to load what a run has learned."""
        before = tree.value.get(INTERVENTIONS, Node([], self.place))
        if not isinstance(before.value, list):
            return tree  # refused when the config is built
        place = self.start.place
        options = self.start.value if isinstance(self.start.value, dict) else {}
        load = {
            "implementation": Node("load", place),
            "run": Node(str(folder), place),
            **{key: node for key, node in options.items() if key != ARM},
        }
        return set_node(tree, INTERVENTIONS, Node([Node(load, place), *before.value], before.place))


def read_arms(section: Node, config_class: type[Config]) -> dict[str, Arm]:
    """The arms of a grid by their names, in their order, but each after the one that it starts from.

    Args:
        section: the section ``grid``, validated.
        config_class: of the runs.

    Raises:
        ConfigError: an arm starts from none of the grid or, by way of others, from itself; or the study has
            no interventions.
    """
    node = section.value.get(ARMS)
    arms = {name: _read_arm(name, arm) for name, arm in node.value.items()} if node is not None else {}
    for arm in arms.values():
        where = f"{arm.start.place}: grid.{ARMS}.{arm.name}.{STARTS_FROM}"
        if arm.parent is not None and arm.parent not in arms:
            hint = suggest(arm.parent, arms) or "."
            raise ConfigError(f"{where}: expected one of {', '.join(arms)}, got '{arm.parent}'{hint}")
        if arm.parent is not None and INTERVENTIONS not in config_class.model_fields:
            raise ConfigError(
                f"{where}: runs of this study have no key `{INTERVENTIONS}`, by which a run starts from "
                "another: leave it out."
            )
    return _parents_first(arms)


def _read_arm(name: str, node: Node) -> Arm:
    keys = {key: value for key, value in node.value.items() if key != STARTS_FROM}
    start = node.value.get(STARTS_FROM, Node(None, node.place))
    parent = start.value[ARM].value if isinstance(start.value, dict) else start.value
    return Arm(name, node.place, keys, parent, start)


def _parents_first(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    ordered: dict[str, Arm] = {}
    for arm in arms.values():
        line: dict[str, Arm] = {}
        parent: Arm | None = arm
        while parent is not None and parent.name not in ordered:
            if parent.name in line:
                names = [*line, parent.name][list(line).index(parent.name) :]
                raise ConfigError(
                    f"{parent.start.place}: grid.{ARMS}: no run of these can be the first, each starts from "
                    f"the next: {', '.join(names)}."
                )
            line[parent.name] = parent
            parent = None if parent.parent is None else arms[parent.parent]
        ordered |= dict(reversed(line.items()))
    return ordered
