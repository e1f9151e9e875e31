"""What the rows of a grid say: recall by setting, parameters needed, parameters a fact."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apps.memory.dataset.dependent import database_bits
from apps.memory.dataset.people import ATTRIBUTES, bits_per_person
from apps.memory.settings import MemoryConfig
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.results import Interval, interval
from nanollama.model import ModelConfig

Row = Mapping[str, Any]

ENOUGH = 0.95
"""Mean recall that counts as learned, as published."""
PUBLISHED = Path(__file__).parent / "published"
VARIED = {
    "people": "data.n_people",
    "alpha": "data.dependence.alpha",
    "width": "model.d_model",
    "positions": "model.positions",
}
"""Short names of settings, in the order in which one becomes the horizontal axis."""


class Setting(NamedTuple):
    """What a run is, but for its seed."""

    arm: str
    people: int
    alpha: float | None
    width: int
    """Of a model of ours; 0 for one of Hugging Face."""
    positions: str
    parameters: int
    exposures: float
    """Of each fact or sum."""
    bits: float
    """What there is to know about a person."""

    def at(self, axis: str) -> Any:
        """The value on an axis of `VARIED`."""
        return getattr(self, axis)

    def without(self, axis: str) -> tuple[Any, ...]:
        """What tells settings apart, beside an axis."""
        return (self.arm, *(self.at(name) for name in VARIED if name != axis))


Measures = dict[str, Interval]


def arm_of(config: MemoryConfig) -> str:
    """How a run learns to answer; of a mixture, which share of the dialogs asks a tool."""
    weights = {source.kind: source.weight for source in config.data.sources}
    asking = sum(weights.get(kind, 0.0) for kind in ("qatool", "sumstool"))
    by_heart = sum(weights.get(kind, 0.0) for kind in ("qa", "sums"))
    if asking and (by_heart or "biographies" in weights):
        return f"mixed, {asking / (asking + by_heart):.0%} ask"
    return "in-tool" if asking else "in-weight"


def exposures(config: MemoryConfig) -> float:
    """How often a run reads each fact (or sum), by all of its sources together."""
    data, training = config.data, config.training
    weights = sum(source.weight for source in data.sources)
    n_rows = training.n_steps * training.batch_size
    n_facts = {"biographies": data.n_people, "sums": data.sums.n_sums, "sumstool": data.sums.n_sums}
    shares = (
        source.weight / weights / n_facts.get(source.kind, data.n_people * len(ATTRIBUTES))
        for source in data.sources
    )
    return n_rows * math.fsum(shares)


def bits_to_know(config: MemoryConfig) -> float:
    """The exact entropy of the facts a run learns, in bits a person."""
    dependence, n_people = config.data.dependence, config.data.n_people
    if dependence is None:
        return bits_per_person()
    return database_bits(dependence.alpha, n_people, dependence.seed) / n_people


def setting_of(config: MemoryConfig, n_params: int) -> Setting:
    """What a run is, but for its seed."""
    dependence, model = config.data.dependence, config.model
    return Setting(
        arm=arm_of(config),
        people=config.data.n_people,
        alpha=None if dependence is None else dependence.alpha,
        width=model.d_model if isinstance(model, ModelConfig) else 0,
        positions=model.positions if isinstance(model, ModelConfig) else "its own",
        parameters=n_params,
        exposures=exposures(config),
        bits=bits_to_know(config),
    )


def name_settings(settings: Sequence[Setting], axis: str | None = None) -> dict[Setting, str]:
    """A name for each: its arm and what else varies among them, beside an axis."""
    varied = [name for name in VARIED if name != axis and len({s.at(name) for s in settings}) > 1]
    return {
        setting: ", ".join([setting.arm, *(f"{name} {setting.at(name)}" for name in varied)])
        for setting in settings
    }


def by_setting(runs: Mapping[str, GridRun], rows: Sequence[Row]) -> dict[Setting, Measures]:
    """Means and intervals over the seeds of each setting, of finished runs."""
    found: dict[Setting, list[Row]] = {}
    for row in rows:
        config = runs[row["run"]].config
        if row["status"] != "finished" or not isinstance(config, MemoryConfig):
            continue
        setting = setting_of(config, row["n_params"])
        found.setdefault(setting, []).append(row)
    return {setting: _intervals(members) for setting, members in sorted(found.items(), key=_order)}


def axis_of(settings: Sequence[Setting]) -> str | None:
    """The horizontal axis: the first of `VARIED` that varies; None when nothing does."""
    return next((name for name in VARIED if len({setting.at(name) for setting in settings}) > 1), None)


def params_needed(
    measured: Mapping[Setting, Measures], axis: str, measure: str = "recall_trained"
) -> list[dict[str, Any]]:
    """The smallest model with enough recall, for each arm and place on an axis.

    Returns:
        rows with ``arm``, the axis, ``parameters``, ``low`` and ``high``: the smallest model of which the
        mean is enough; of which the upper and the lower end of the interval is. What no model reached is
        None.
    """
    groups: dict[tuple[str, Any], list[tuple[int, Interval]]] = {}
    for setting, measures in measured.items():
        if measure in measures:
            group = groups.setdefault((setting.arm, setting.at(axis)), [])
            group.append((setting.parameters, measures[measure]))

    def smallest(sized: list[tuple[int, Interval]], end: Callable[[Interval], float]) -> int | None:
        return min((size for size, found in sized if end(found) >= ENOUGH), default=None)

    return [
        {
            "arm": arm,
            axis: place,
            "parameters": smallest(sized, lambda found: found.mean),
            "low": smallest(sized, lambda found: found.mean + _half_width(found)),
            "high": smallest(sized, lambda found: found.mean - _half_width(found)),
        }
        for (arm, place), sized in groups.items()
    ]


def params_per_fact(needed: Sequence[Row]) -> float | None:
    """Slope of parameters needed over facts, in-weight, by least squares; None with fewer than two points."""
    points = [
        (len(ATTRIBUTES) * row["people"], row["parameters"])
        for row in needed
        if row["arm"] == "in-weight" and row["parameters"] is not None
    ]
    if len({n_facts for n_facts, _ in points}) < 2:
        return None
    n_facts, n_params = np.array(points, dtype=float).T
    return float(np.polyfit(n_facts, n_params, 1)[0])


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


def _intervals(rows: Sequence[Row]) -> Measures:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row[name] for row in rows if _is_number(row.get(name))] for name in names}
    return {name: interval(values) for name, values in columns.items() if len(values) == len(rows)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _half_width(found: Interval) -> float:
    return 0.0 if math.isnan(found.half_width) else found.half_width


def _order(item: tuple[Setting, list[Row]]) -> tuple[Any, ...]:
    setting = item[0]
    return (setting.arm, setting.people, setting.alpha or 0.0, setting.width, setting.positions)
