"""People are fixed for ever: unique names, uniform facts, the same prefix whatever the length."""

from __future__ import annotations

import doctest
import hashlib
import json
import math
import re
from collections import Counter

import numpy as np
import pytest

from apps.memory.dataset import people as people_module
from apps.memory.dataset.lines import people_pattern, render
from apps.memory.dataset.people import (
    ATTRIBUTES,
    N_FIRST_NAMES,
    N_LAST_NAMES,
    N_PEOPLE,
    POPULATIONS,
    Person,
    attribute_values,
    bits_per_person,
    people,
    read_list,
    splitmix64,
)

LIST_SIZES = {
    "first_names": 437,
    "last_names": 388,
    "new_first_names": 437,
    "new_last_names": 388,
    "cities": 213,
    "countries": 7,
    "occupations": 100,
}
N_VALUES = {"birth_date": 28 * 12 * 51, "birth_place": 7, "current_address": 213, "occupation": 100}


@pytest.fixture(scope="module")
def everybody() -> dict[str, list[Person]]:
    return {population: people(0, N_PEOPLE, population) for population in POPULATIONS}


def test_golden_people(everybody):
    assert N_PEOPLE == 169_556
    assert [everybody["train"][index] for index in (0, 1, 1000, 169_555)] == [
        Person(0, "Bertha Malone", "1997-08-24", "Brazil", "Malaga", "bus driver"),
        Person(1, "Desmond Elder", "1956-11-06", "Japan", "Ankara", "fisherman"),
        Person(1000, "Phoebe Schneider", "1989-09-16", "Norway", "Helsinki", "hairdresser"),
        Person(169_555, "Kirk Driscoll", "1979-05-14", "India", "Auckland", "diplomat"),
    ]
    assert everybody["new"][0] == Person(0, "Sherman Bush", "1967-06-08", "Chile", "Vienna", "chef")


@pytest.mark.parametrize(
    ("population", "sha256"),
    [
        ("train", "6a66f8a4c083ee18ca310a859b171949a487d67378a291e90c0956491aa6f744"),
        ("new", "fe265e6227196fa35713148d22bb4d654e9d6038198f838a1e10246a07c1b03f"),
    ],
)
def test_golden_hash_of_everybody(everybody, population, sha256):
    assert hashlib.sha256(render(people_pattern(), everybody[population])).hexdigest() == sha256


def test_names_are_unique_over_both_populations(everybody):
    names = {person.name for population in POPULATIONS for person in everybody[population]}
    assert len(names) == 2 * N_PEOPLE


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (0, 100), (5, 9), (N_PEOPLE - 3, N_PEOPLE)])
def test_a_slice_is_a_slice_of_everybody(everybody, population, start, stop):
    assert people(start, stop, population) == everybody[population][start:stop]


@pytest.mark.parametrize("bounds", [(-1, 3), (3, 2), (0, N_PEOPLE + 1)])
def test_impossible_slices_are_refused(bounds):
    with pytest.raises(ValueError, match=r"No people .*: expected 0 <= start <= stop <= 169556"):
        people(*bounds)


def test_an_unknown_population_is_refused():
    with pytest.raises(ValueError, match=r"Unknown population 'old', expected one of \['train', 'new'\]"):
        people(0, 1, "old")


def test_bits_per_person_follow_from_the_list_sizes():
    assert {attribute: len(attribute_values(attribute)) for attribute in ATTRIBUTES} == N_VALUES
    assert bits_per_person() == pytest.approx(math.log2(math.prod(N_VALUES.values())), abs=1e-12)
    assert bits_per_person() == pytest.approx(31.251, abs=5e-4)


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_facts_are_uniform(everybody, population, attribute):
    values = attribute_values(attribute)
    counts = Counter(getattr(person, attribute) for person in everybody[population])
    assert set(counts) <= set(values)
    expected = N_PEOPLE / len(values)
    chi_squared = sum((counts[value] - expected) ** 2 / expected for value in values)
    degrees = len(values) - 1
    assert abs(chi_squared - degrees) < 5 * math.sqrt(2 * degrees)  # mean and variance of chi-squared


def test_facts_are_independent_of_each_other_and_of_names(everybody):
    crowd = everybody["train"]
    columns = [[getattr(person, attribute) for person in crowd] for attribute in ATTRIBUTES]
    columns += [[person.name.split()[part] for person in crowd] for part in (0, 1)]
    numbers = [np.unique(column, return_inverse=True)[1].astype(float) for column in columns]
    correlations = np.corrcoef([*numbers, np.arange(N_PEOPLE)])
    off_diagonal = correlations[~np.eye(len(correlations), dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(N_PEOPLE)


def test_splitmix64_gives_the_published_numbers():
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(1234567, np.arange(5)).tolist() == expected


@pytest.mark.parametrize(("name", "size"), LIST_SIZES.items())
def test_lists_have_their_size_and_no_duplicates(name, size):
    words = read_list(name)
    assert len(words) == len(set(words)) == size


@pytest.mark.parametrize("name", LIST_SIZES)
def test_words_read_the_same_in_json_in_sql_and_in_requests(name):
    for word in read_list(name):
        assert re.fullmatch(r"[A-Za-z]+( [A-Za-z]+)?", word), word
        assert json.dumps(word) == f'"{word}"'


def test_dates_read_the_same_in_json_in_sql_and_in_requests():
    assert all(re.fullmatch(r"(19|20)\d\d-\d\d-\d\d", date) for date in attribute_values("birth_date"))


def test_no_value_is_the_end_of_another():
    values = [value.lower() for attribute in ATTRIBUTES for value in attribute_values(attribute)]
    assert len(values) == len(set(values))
    ends = {value[start:] for value in values for start in range(1, len(value))}
    assert ends.isdisjoint(values)


def test_an_article_fits_every_occupation():
    assert not [word for word in read_list("occupations") if word[0] in "aeiou"]


@pytest.mark.parametrize(("kind", "size"), [("first", N_FIRST_NAMES), ("last", N_LAST_NAMES)])
def test_new_names_are_new_but_alike(kind, size):
    known, new = read_list(f"{kind}_names"), read_list(f"new_{kind}_names")
    assert len(known) == len(new) == size
    assert set(known).isdisjoint(new)
    assert set("".join(new)) <= set("".join(known)), "a letter that training never shows"
    assert {word[0] for word in new} <= {word[0] for word in known}
    assert max(map(len, new)) <= max(map(len, known))
    assert np.mean(list(map(len, new))) == pytest.approx(np.mean(list(map(len, known))), abs=0.1)


def test_first_names_are_not_last_names():
    firsts = {*read_list("first_names"), *read_list("new_first_names")}
    assert firsts.isdisjoint({*read_list("last_names"), *read_list("new_last_names")})


def test_the_example_in_the_docstring():
    assert doctest.testmod(people_module).failed == 0
