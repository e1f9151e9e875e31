"""What the rows of a grid say: recall by setting, parameters needed, parameters a fact."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from apps.memory.dataset.dependent import database_bits
from apps.memory.dataset.people import ATTRIBUTES, bits_per_person
from apps.memory.settings import MemoryConfig
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.results import Finished, GridResults, final
from nanollama.launcher.plan import Plan
from nanollama.report.grouping import Setting, series_labels
from nanollama.statistics import Interval

Row = Mapping[str, Any]

ENOUGH = 0.95
"""Mean recall that counts as learned, as published."""
PUBLISHED = Path(__file__).parents[1] / "published"
PUBLISHED_PEOPLE = 1000
"""Of the table by alpha."""
AXES: dict[str, Callable[[MemoryConfig], Any]] = {
    "people": lambda config: config.data.n_people,
    "alpha": lambda config: None if config.data.dependence is None else config.data.dependence.alpha,
    "width": lambda config: getattr(config.model, "d_model", 0),
}
"""Numbers of a config, in the order in which one becomes the horizontal axis."""


@dataclass(frozen=True)
class Measured:
    """What the finished runs of a setting have come to.

    Args:
        label: of the setting.
        arm: how its runs learn to answer.
        people: learned about.
        alpha: chance of a fact to be free; None where facts do not depend on each other.
        width: d_model.
        parameters: of the model.
        exposures: of each fact; without facts, of each sum.
        bits: what there is to know about a person.
        setting: with its runs.
    """

    label: str
    arm: str
    people: int
    alpha: float | None
    width: int
    parameters: int
    exposures: float
    bits: float
    setting: Setting[Finished]

    def at(self, axis: str) -> Any:
        """The value on an axis of `AXES`."""
        return getattr(self, axis)

    def final(self, name: str) -> Interval | None:
        """A measure after the last step, over seeds."""
        return final(self.setting, name)


def arm_of(config: MemoryConfig) -> str:
    """How a run learns to answer; of a mixture, which share of the dialogs asks a tool."""
    weights = {source.kind: source.weight for source in config.data.sources}
    if set(weights) == {"text"}:
        return "text alone"
    asking = sum(weights.get(kind, 0.0) for kind in ("qatool", "sumstool"))
    by_heart = sum(weights.get(kind, 0.0) for kind in ("qa", "sums"))
    if asking and (by_heart or "biographies" in weights):
        return f"mixed, {asking / (asking + by_heart):.0%} ask"
    return "in-tool" if asking else "in-weight"


def exposures(config: MemoryConfig) -> float:
    """How often a run reads each fact, by all of its sources together; without facts, each sum."""
    data, training = config.data, config.training
    n_items = {"biographies": data.n_people}  # which tell all facts of a person
    n_items |= dict.fromkeys(("qa", "qatool"), data.n_people * len(ATTRIBUTES))
    if not data.tells_of_people:
        n_items = dict.fromkeys(("sums", "sumstool"), data.sums.n_sums)
    weights = sum(source.weight for source in data.sources)
    shares = (
        source.weight / weights / n_items[source.kind] for source in data.sources if source.kind in n_items
    )
    return training.n_steps * training.batch_size * math.fsum(shares)


def bits_to_know(config: MemoryConfig) -> float:
    """The exact entropy of the facts a run learns, in bits a person."""
    dependence, n_people = config.data.dependence, config.data.n_people
    if dependence is None:
        return bits_per_person()
    return database_bits(dependence.alpha, n_people, dependence.seed) / n_people


def measure_settings(grid: GridResults) -> list[Measured]:
    """What has finished of a grid, a setting each, by place on the axes."""
    measured = []
    for setting in grid.settings:
        first = setting.runs[0]
        config = cast(MemoryConfig, first.run.config)
        measured.append(
            Measured(
                label=setting.label,
                arm=arm_of(config),
                **{axis: place(config) for axis, place in AXES.items()},
                parameters=first.row["n_params"],
                exposures=exposures(config),
                bits=bits_to_know(config),
                setting=setting,
            )
        )
    return sorted(measured, key=lambda found: (found.arm, found.people, found.alpha or 0.0, found.width))


def name_series(plan: Plan, *axes: str | None) -> dict[str, str]:
    """For each label of a setting, the line it is on beside these axes: its arm, if that says enough."""

    def config_of(setting: Setting[GridRun]) -> MemoryConfig:
        return cast(MemoryConfig, setting.runs[0].config)

    places = [lambda setting, axis=axis: AXES[axis](config_of(setting)) for axis in axes if axis is not None]
    lines = series_labels(plan.settings, *places)
    arms = {setting.label: arm_of(config_of(setting)) for setting in plan.settings}
    n_lines = Counter(arm for arm, _ in {(arms[label], line) for label, line in lines.items()})
    return {
        label: arms[label] if n_lines[arms[label]] == 1 else f"{arms[label]}, {line}"
        for label, line in lines.items()
    }


def axis_of(measured: Sequence[Measured]) -> str | None:
    """The horizontal axis: the first of `AXES` that varies within an arm; None when none does."""
    arms = {found.arm for found in measured}
    return next(
        (
            axis
            for axis in AXES
            if any(len({found.at(axis) for found in measured if found.arm == arm}) > 1 for arm in arms)
        ),
        None,
    )


def params_needed(
    measured: Sequence[Measured], axis: str, series: Mapping[str, str], measure: str = "recall_trained"
) -> list[dict[str, Any]]:
    """The smallest model with enough recall, for each series and place on an axis.

    Args:
        measured: settings.
        axis: of `AXES`.
        series: of `name_series`, beside the axis and the width.
        measure: what has to be enough.

    Returns:
        rows with ``series``, ``arm``, the axis, ``parameters``, ``low`` and ``high``: the smallest model of
        which the mean is enough; of which the upper and the lower end of the interval is. What no model
        reached is None.
    """
    groups: dict[tuple[str, str, Any], list[tuple[int, Interval]]] = {}
    for found in measured:
        if recall := found.final(measure):
            group = groups.setdefault((series[found.label], found.arm, found.at(axis)), [])
            group.append((found.parameters, recall))

    def smallest(sized: list[tuple[int, Interval]], end: Callable[[Interval], float]) -> int | None:
        return min((size for size, found in sized if end(found) >= ENOUGH), default=None)

    return [
        {
            "series": name,
            "arm": arm,
            axis: place,
            "parameters": smallest(sized, lambda found: found.mean),
            "low": smallest(sized, lambda found: found.mean if math.isnan(found.high) else found.high),
            "high": smallest(sized, lambda found: found.mean if math.isnan(found.low) else found.low),
        }
        for (name, arm, place), sized in groups.items()
    ]


def params_per_fact(needed: Sequence[Row]) -> dict[str, float]:
    """Slope of parameters needed over facts, by least squares, of each in-weight series of several points."""
    points: dict[str, list[tuple[int, int]]] = {}
    for row in needed:
        if row["arm"] == "in-weight" and row["parameters"] is not None:
            point = len(ATTRIBUTES) * row["people"], row["parameters"]
            points.setdefault(row["series"], []).append(point)
    return {
        series: float(
            np.polyfit([n_facts for n_facts, _ in found], [n_params for _, n_params in found], 1)[0]
        )
        for series, found in points.items()
        if len(found) > 1
    }


def crossing_step(evaluations: Sequence[Row], measure: str, level: float = 0.5) -> int | None:
    """The first evaluated step from which on a measure stays at the level or above; None if it never does."""
    crossed = None
    for row in evaluations:
        value = row.get(measure)
        if value is None or value < level:
            crossed = None
        elif crossed is None:
            crossed = int(row["step"])
    return crossed


def read_published(name: str) -> list[dict[str, float | None]]:
    """A table of published figures; the first line of its file names the source."""
    lines = (PUBLISHED / f"{name}.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [
        {key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(lines)
    ]
