"""The settings among several runs: what sets them apart beside the seed, each with a label of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Generic, TypeVar

Run = TypeVar("Run", covariant=True)
Other = TypeVar("Other")

ALL_RUNS = "all runs"
"""The label where nothing sets runs apart but their seeds."""

# Words that no number, nothing and truth value is written as stand without quotes.
_BARE = re.compile(r"(?!(?:true|false|null|nan|inf)\Z)[A-Za-z_./*][A-Za-z0-9_./*+-]*")


@dataclass(frozen=True)
class Setting(Generic[Run]):
    """Runs that differ in their seed alone.

    Args:
        parts: how the label says each varied value, by dotted key: ``n_layers=2``.
        values: what varies, by dotted key; seeds left out.
        by_seed: the runs of each seed in their order; several where one was repeated.
    """

    parts: Mapping[str, str]
    values: Mapping[str, Any]
    by_seed: Mapping[tuple[str, ...], tuple[Run, ...]]

    @property
    def label(self) -> str:
        """What sets it apart from the others, as no other is called: ``n_layers=2, phases=[]``."""
        return ", ".join(self.parts.values()) or ALL_RUNS

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those of all seeds."""
        return tuple(run for runs in self.by_seed.values() for run in runs)

    @property
    def n_seeds(self) -> int:
        """How many seeds there are; two runs of one seed are not two."""
        return len(self.by_seed)

    def over_seeds(self, measure: Callable[[Run], float]) -> list[float]:
        """One value a seed: the mean over its runs."""
        return [fmean(map(measure, runs)) for runs in self.by_seed.values()]

    def read(self, read: Callable[[Run], Other | None]) -> Setting[Other]:
        """The same with what is read of each run in its place; a run of which None is read is left out."""
        found = {
            seed: tuple(value for value in map(read, runs) if value is not None)
            for seed, runs in self.by_seed.items()
        }
        by_seed = {seed: values for seed, values in found.items() if values}
        return Setting(self.parts, self.values, by_seed)


def group_runs(
    runs: Sequence[Run], values: Iterable[Mapping[str, Any]], seed_keys: Collection[str | None]
) -> list[Setting[Run]]:
    """The settings of runs, in the order of their first runs.

    Args:
        runs: of any kind.
        values: what each run is, by dotted key: numbers, texts, lists, sections or None; 1 is 1.0.
        seed_keys: the keys among them that seeds are values of.
    """
    firsts: dict[tuple[tuple[str, str], ...], tuple[Mapping[str, Any], dict[str, str]]] = {}
    groups: dict[tuple[tuple[str, str], ...], dict[tuple[str, ...], list[Run]]] = {}
    for run, known in zip(runs, values, strict=True):
        texts = {key: show_value(value) for key, value in known.items()}
        seed = tuple(texts.pop(key, "") for key in seed_keys if key is not None)
        identity = tuple(sorted(texts.items()))
        firsts.setdefault(identity, (known, texts))
        groups.setdefault(identity, {}).setdefault(seed, []).append(run)
    keys = dict.fromkeys(key for _, texts in firsts.values() for key in texts)
    varied = [key for key in keys if len({texts.get(key) for _, texts in firsts.values()}) > 1]
    names = {key: show_value(short) for key, short in short_keys(varied).items()}
    return [
        Setting(
            {key: f"{names[key]}={texts[key]}" for key in varied if key in texts},
            {key: known[key] for key in varied if key in texts},
            {seed: tuple(members) for seed, members in groups[identity].items()},
        )
        for identity, (known, texts) in firsts.items()
    ]


def series_labels(settings: Sequence[Setting[Run]], *places: Callable[[Setting[Run]], Any]) -> dict[str, str]:
    """For each label of a setting, that of the line it is on in a figure in which the places are drawn.

    A line says all that varies but what one of the places tells, as where values change together: no two
    settings in one place are on one line. With all settings of a grid, lines stay what they are while its
    runs come in.
    """
    keys = dict.fromkeys(key for setting in settings for key in setting.parts)
    told = {key for key in keys if any(goes_with(settings, key, place) for place in places)}
    return {
        setting.label: ", ".join(part for key, part in setting.parts.items() if key not in told) or ALL_RUNS
        for setting in settings
    }


def goes_with(settings: Sequence[Setting[Run]], key: str, place: Callable[[Setting[Run]], Any]) -> bool:
    """Does one value of a key belong to each place?"""
    pairs = {(show_value(place(setting)), setting.parts.get(key)) for setting in settings}
    return len(pairs) == len({where for where, _ in pairs})


def show_value(value: Any) -> str:
    """A value in few words, in the manner of YAML; the same for 1 and 1.0, else different for all values."""
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        parts = sorted((show_value(key), show_value(part)) for key, part in value.items())
        return f"{{{', '.join(f'{key}: {part}' for key, part in parts)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show_value, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)


def short_keys(keys: Collection[str]) -> dict[str, str]:
    """For each dotted key, its shortest ending that no other key shares."""
    short = {}
    for key in keys:
        parts = key.split(".")
        endings = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        others = [f".{other}" for other in keys if other != key]
        short[key] = next((e for e in endings if not any(other.endswith(f".{e}") for other in others)), key)
    return short
