"""The people: who person number i is, and the four facts about them, as a pure function of i.

A name is a pair of a first and a last name. Person i has the i-th pair of a fixed random permutation of all
pairs, so names are unique, and the first n people are the same whatever n is. Facts are hashes of population,
attribute and i, spread evenly over the values: there are `bits_per_person()` to learn about each person.

Two populations share no first and no last name: ``train``, and ``new`` for people that no model has ever met.
The word lists (`lists/*.txt`) and `SEED` are fixed for ever: changing one changes every person.

    >>> people(1, 2)[0][:4]
    (1, 'Desmond Elder', '1956-11-06', 'Japan')
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from nanollama.seeds import named_seed

Population = Literal["train", "new"]

POPULATIONS: tuple[Population, ...] = get_args(Population)
ATTRIBUTES = ("birth_date", "birth_place", "current_address", "occupation")
N_FIRST_NAMES, N_LAST_NAMES = 437, 388
N_PEOPLE = N_FIRST_NAMES * N_LAST_NAMES
SEED = 2508

_LISTS = Path(__file__).parent / "lists"
_NAME_LISTS = {"train": ("first_names", "last_names"), "new": ("new_first_names", "new_last_names")}
_FIRST_YEAR, _N_YEARS, _N_MONTHS, _N_DAYS = 1950, 51, 12, 28


class Person(NamedTuple):
    """A person and the facts about them. No value is the end of another value, of any attribute."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a person
    name: str
    birth_date: str  # ISO, e.g. 1980-05-04
    birth_place: str  # a country
    current_address: str  # a city
    occupation: str  # a word or two that "a" can stand before


def people(start: int, stop: int, population: Population = "train") -> list[Person]:
    """People number start to stop - 1 of a population.

    Raises:
        ValueError: unless 0 <= start <= stop <= `N_PEOPLE` and the population is known.
    """
    if population not in POPULATIONS:
        raise ValueError(f"Unknown population '{population}', expected one of {list(POPULATIONS)}.")
    if not 0 <= start <= stop <= N_PEOPLE:
        raise ValueError(f"No people {start} to {stop}: expected 0 <= start <= stop <= {N_PEOPLE}.")
    index = np.arange(start, stop, dtype=np.uint64)
    firsts, lasts = (read_list(name) for name in _NAME_LISTS[population])
    pairs = _name_pairs(population)[start:stop]
    names = (f"{firsts[first]} {lasts[last]}" for first, last in zip(*_split(pairs), strict=True))
    facts = [_facts(index, population, attribute) for attribute in ATTRIBUTES]
    return list(map(Person, range(start, stop), names, *facts))


def find_person(name: str, population: Population = "train") -> Person | None:
    """The person of a name; None where nobody of the population has it."""
    first, _, last = name.partition(" ")
    firsts, lasts = (read_list(names) for names in _NAME_LISTS[population])
    if first not in firsts or last not in lasts:
        return None
    pair = firsts.index(first) * N_LAST_NAMES + lasts.index(last)
    number = int(np.flatnonzero(_name_pairs(population) == pair)[0])
    return people(number, number + 1, population)[0]


def bits_per_person() -> float:
    """What there is to know about a person's four facts, in bits: they are uniform and independent."""
    return sum(math.log2(len(attribute_values(attribute))) for attribute in ATTRIBUTES)


@lru_cache
def attribute_values(attribute: str) -> tuple[str, ...]:
    """All values an attribute can take, each equally likely."""
    return _VALUES[attribute]()


@lru_cache
def read_list(name: str) -> tuple[str, ...]:
    """The words of ``lists/<name>.txt``, one a line."""
    return tuple((_LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines())


def splitmix64(key: int, counters: np.ndarray) -> np.ndarray:
    """Outputs number `counters` (from 0) of the SplitMix64 generator seeded with `key`; uint64, same shape.

    Counter-based, so any person's facts can be had without those of the others; written out here because the
    streams of numpy's own generators may change between versions. Source: Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators" (OOPSLA 2014), with the constants of Vigna's splitmix64.c.
    """
    mixed = np.uint64(key) + (counters.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _birth_dates() -> tuple[str, ...]:
    years = range(_FIRST_YEAR, _FIRST_YEAR + _N_YEARS)
    months, days = range(1, _N_MONTHS + 1), range(1, _N_DAYS + 1)
    return tuple(date(year, month, day).isoformat() for year in years for month in months for day in days)


_VALUES: dict[str, Callable[[], tuple[str, ...]]] = {
    "birth_date": _birth_dates,
    "birth_place": lambda: read_list("countries"),
    "current_address": lambda: read_list("cities"),
    "occupation": lambda: read_list("occupations"),
}


def _hashes(population: Population, purpose: str, index: np.ndarray) -> np.ndarray:
    return splitmix64(named_seed(SEED, f"{population}/{purpose}"), index)


@lru_cache
def _name_pairs(population: Population) -> np.ndarray:
    """The permutation: number of the name pair of each person, shape (N_PEOPLE,)."""
    return np.argsort(_hashes(population, "name", np.arange(N_PEOPLE)), kind="stable")


def _split(pairs: np.ndarray) -> tuple[list[int], list[int]]:
    first, last = np.divmod(pairs, N_LAST_NAMES)
    return first.tolist(), last.tolist()


def _facts(index: np.ndarray, population: Population, attribute: str) -> list[str]:
    values = attribute_values(attribute)
    chosen = _hashes(population, attribute, index) % np.uint64(len(values))
    return [values[number] for number in chosen.tolist()]
