"""What several runs say together: runs that differ in their seed alone, their mean and its interval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from nanollama.errors import UserError
from nanollama.measures import HIGH, LOW, headline_names, is_number
from nanollama.report.grouping import Setting, group_runs
from nanollama.report.runs import RunRecord
from nanollama.statistics import Interval, may_be_share, mean_interval, seeds_interval
from nanollama.studies import STUDY_KEY, find_study

# A measure with one of these words in its name is a share, unless it has a unit or values tell otherwise.
_SHARE = re.compile(r"(?:.*[_/])?(?:accuracy|recall|share|peakiness|tool_use|valid_calls)(?:[_/].*)?")
_WITH_UNIT = re.compile(r".*_(?:nats|bits|seconds)(?:/.*)?")

# Runs that agree on all but the keys that name them and those that set their dice are of one setting.
NAMING = ("name", "run_dir", "overwrite")
SEEDS = ("seed", "training.seed")


def over_seeds(setting: Setting[Mapping[str, Any]], name: str) -> Interval | None:
    """The mean of a measure over seeds with its 95 % interval; None where one of the runs lacks it.

    Args:
        setting: with the measures of each run.
        name: of the measure; where each run has its own interval too, as `recall_low` and `recall_high`, the
            interval says what both the seeds and the questions leave open.
    """
    if not all(is_number(row.get(name)) for row in setting.runs):
        return None
    means = setting.over_seeds(itemgetter(name))
    if all(is_number(row.get(name + end)) for row in setting.runs for end in (LOW, HIGH)):
        lows, highs = (setting.over_seeds(itemgetter(name + end)) for end in (LOW, HIGH))
        return interval_of(name, means, lows, highs)
    return interval_of(name, means)


def interval_of(
    name: str, means: Sequence[float], lows: Sequence[float] = (), highs: Sequence[float] = ()
) -> Interval:
    """The mean over seeds of a measure with its 95 % interval.

    Args:
        name: of the measure.
        means: one a seed.
        lows: ends of the seeds' own intervals, where each has one.
        highs: and their other ends.
    """
    if not lows:
        return mean_interval(means, is_share(name, means))
    own = [Interval(*seed, 1) for seed in zip(means, lows, highs, strict=True)]
    return seeds_interval(own, is_share(name, means))


def seeds_or_own(setting: Setting[Mapping[str, Any]], name: str) -> Interval | None:
    """As `over_seeds`; of a single run, its own interval, which says nothing about other seeds."""
    found = over_seeds(setting, name)
    if found is None or len(setting.runs) > 1:
        return found
    (row,) = setting.runs
    low, high = row.get(name + LOW), row.get(name + HIGH)
    return Interval(found.mean, low, high, 1) if is_number(low) and is_number(high) else found


def is_share(name: str, values: Iterable[float]) -> bool:
    """Does a measure lie between 0 and 1, by the words of its name and all its values? Percentages do not."""
    if _SHARE.fullmatch(name) is None or _WITH_UNIT.fullmatch(name) is not None:
        return False
    return all(map(may_be_share, values))


def final_measures(run: RunRecord) -> dict[str, float]:
    """The numbers of the last evaluation; without one, none."""
    row = run.evals[-1] if run.evals else {}
    return {name: value for name, value in row.items() if name != "step" and is_number(value)}


def headlines(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the measures to compare runs by, those of one study after those of another."""
    measured: dict[str, dict[str, None]] = {}
    for run in runs:
        measured.setdefault(study_of(run), {}).update(dict.fromkeys(final_measures(run)))
    return list(dict.fromkeys(chain(*(compared_by(study, list(names)) for study, names in measured.items()))))


def compared_by(study: str, names: Sequence[str]) -> list[str]:
    """Which of some measures runs of a study are compared by: as the study says, else as their names do."""
    try:
        chosen = find_study(study).measures
    except (UserError, ImportError):  # of another checkout, or of none: a run is reported all the same
        chosen = ()
    return [name for name in chosen if name in names] or headline_names(names)


def study_of(run: RunRecord) -> str:
    """What its config calls its study, here or elsewhere."""
    return str(run.config.get(STUDY_KEY))


def group_by_seed(runs: Sequence[RunRecord]) -> list[tuple[str, Setting[RunRecord]]]:
    """Runs that differ in their seed alone together, named by what tells them from the others."""
    configs = [flatten(run.config) for run in runs]
    values = [{key: config[key] for key in config if key not in NAMING} for config in configs]
    return [(_name(setting), setting) for setting in group_runs(runs, values, SEEDS)]


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; lists and empty sections count as values."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _name(setting: Setting[RunRecord]) -> str:
    first, *others = setting.runs
    if others and setting.parts:
        return setting.label
    return str(first.config.get("name", first.name)) if others else first.name
