"""What several runs say together: runs that differ in their seed alone, their mean and its interval."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nanollama.report.runs import RunRecord
from nanollama.statistics import Interval, mean_interval, seeds_interval

LOW, HIGH = "_low", "_high"
SHARE_WORDS = frozenset({"accuracy", "recall", "share"})
"""A measure with one of these words in its name is a share."""

# Keys that name a run or set its dice; runs that agree on all others are repetitions of one experiment.
_NOT_COMPARED = ("name", "run_dir", "overwrite", "seed", "training.seed")


class Group(NamedTuple):
    """Runs that differ in their seed alone."""

    name: str
    runs: tuple[RunRecord, ...]


def over_seeds(rows: Sequence[Mapping[str, Any]], name: str, is_share: bool) -> Interval:
    """The mean of a measure over runs that differ in their seed alone, with its 95 % interval.

    Args:
        rows: measures of each run, all with this one.
        name: of the measure; where each row has its own interval too, as `recall_low` and `recall_high`, the
            interval says what both the seeds and the questions leave open.
        is_share: does it lie between 0 and 1?

    Raises:
        ValueError: there are no rows.
    """
    if all(_is_number(row.get(name + end)) for row in rows for end in (LOW, HIGH)):
        own = [Interval(row[name], row[name + LOW], row[name + HIGH], 1) for row in rows]
        return seeds_interval(own, is_share)
    return mean_interval([row[name] for row in rows], is_share)


def is_share(name: str) -> bool:
    """Does a measure lie between 0 and 1, by the words of its name?"""
    return not SHARE_WORDS.isdisjoint(re.split("[_/]", name))


def final_measures(run: RunRecord) -> dict[str, float]:
    """The numbers of the last evaluation; without one, none."""
    row = run.evals[-1] if run.evals else {}
    return {name: value for name, value in row.items() if name != "step" and _is_number(value)}


def headlines(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the measures to compare runs by, in the order they first appear.

    Those reported with an interval, without their refinements: beside ``recall``, ``recall_birth_date`` is
    one. Where nothing has an interval, all of them.
    """
    return headline_names(list(dict.fromkeys(name for run in runs for name in final_measures(run))))


def headline_names(names: Sequence[str]) -> list[str]:
    """Which of these measures `headlines` takes."""
    known = set(names)
    measured = [name for name in names if {name + LOW, name + HIGH} <= known] or names
    return [name for name in measured if not any(name.startswith(f"{other}_") for other in measured)]


def group_by_seed(runs: Sequence[RunRecord]) -> list[Group]:
    """Repetitions together, named by the keys on which the groups differ."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        config = flatten(run.config)
        compared = {key: value for key, value in config.items() if key not in _NOT_COMPARED}
        groups.setdefault(json.dumps(compared, sort_keys=True, default=str), []).append(run)
    differing = _differing_keys([flatten(members[0].config) for members in groups.values()])
    return [Group(_name(members, differing), tuple(members)) for members in groups.values()]


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; lists count as values."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _differing_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for config in configs for key in config if key not in _NOT_COMPARED)
    return [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]


def _name(members: Sequence[RunRecord], differing: Sequence[str]) -> str:
    if len(members) == 1:
        return members[0].name
    config = flatten(members[0].config)
    words = [f"{key}={config[key]}" for key in differing if key in config]
    return ", ".join(words) or str(config.get("name", members[0].name))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
