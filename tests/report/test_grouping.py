"""Settings of runs: only seeds are pooled, and no two settings share a label or a place on a line."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanollama.report.grouping import ALL_RUNS, goes_with, group_runs, series_labels, short_keys, show_value

SEED = "training.seed"
KEYS = ("training.precision", "data.phases", "data.n_people", "model.n", "other.n", "n", "data.seed")
WORDS = [
    "1",
    "true",
    "null",
    "None",
    "",
    "a",
    "a, n=1",
    "a, model.n=a",
    "[1]",
    "{a: 1}",
    "nan",
    '"a"',
    "a, a",
]
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, -1, 0.5, 1e-05, *WORDS])
VALUES = SCALARS | st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b: 1"]), inner, max_size=2)
    ),
    max_leaves=4,
)
# Pairs of values that a careless label takes for one.
TWINS = st.sampled_from(
    [
        (1, "1"),
        (1, True),
        (True, "true"),
        (None, "null"),
        (None, []),
        ([1], "[1]"),
        ([], [[]]),
        ("a", '"a"'),
        (["a", "a"], ["a, a"]),
        ([[1], 2], [[1, 2]]),
        ([{"a": 0}], [{"b": 0}]),
        ({"a": 1}, "{a: 1}"),
        ({"a": "a, b: 0"}, {"a": "a", "b": 0}),
    ]
)


def same(one: Any, other: Any) -> bool:
    """What a grid takes for one value: 1 is 1.0, and not true."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def distinct(values: list[Any]) -> list[Any]:
    return [v for number, v in enumerate(values) if not any(same(v, other) for other in values[:number])]


@st.composite
def grids(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The values of all runs of a grid, any of which may be left out."""
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=3))
    axes = [distinct(draw(TWINS.map(list) | st.lists(VALUES, min_size=1, max_size=3))) for _ in keys]
    seeds = draw(st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=3))
    runs = [dict(zip((*keys, SEED), point, strict=True)) for point in itertools.product(*axes, seeds)]
    kept = draw(st.lists(st.booleans(), min_size=len(runs), max_size=len(runs)))
    return [run for run, keep in zip(runs, kept, strict=True) if keep]


def are_one_setting(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(same(one[key], other[key]) for key in one if key != SEED)


def labels_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {id(run): setting.label for setting in group_runs(runs, runs, (SEED,)) for run in setting.runs}
    return [found[id(run)] for run in runs]


@given(grids())
def test_runs_share_a_group_and_a_label_where_they_differ_in_their_seed_alone(
    runs: list[dict[str, Any]],
) -> None:
    labels = labels_of(runs)
    for (one, label), (other, other_label) in itertools.combinations(zip(runs, labels, strict=True), 2):
        assert (label == other_label) == are_one_setting(one, other)
    settings = group_runs(runs, runs, (SEED,))
    assert len({setting.label for setting in settings}) == len(settings)
    assert sum(len(setting.runs) for setting in settings) == len(runs)
    for setting in settings:
        assert len({part.partition("=")[0] for part in setting.parts.values()}) == len(setting.parts)
        assert setting.n_seeds == len({run[SEED] for run in setting.runs})
        assert list(setting.runs) == [run for run in runs if are_one_setting(run, setting.runs[0])]


@given(grids())
def test_no_two_settings_are_in_one_place_of_one_line(runs: list[dict[str, Any]]) -> None:
    settings = group_runs(runs, runs, (SEED,))
    for axis in runs[0] if runs else ():
        lines = series_labels(settings, lambda setting, axis=axis: setting.values.get(axis))
        spots = {(lines[setting.label], show_value(setting.values.get(axis))) for setting in settings}
        assert len(spots) == len(settings)


@given(TWINS | st.tuples(VALUES, VALUES))
def test_values_are_shown_alike_where_they_are_the_same(pair: tuple[Any, Any]) -> None:
    one, other = pair
    assert (show_value(one) == show_value(other)) == same(one, other)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("float32", "float32"),
        ("none", "none"),
        (None, "null"),
        ("null", '"null"'),
        ("16", '"16"'),
        (16.0, "16"),
        (True, "true"),
        (1e-3, "0.001"),
        ([], "[]"),
        (
            [{"from_step": 0, "max_length": 4}, {"from_step": 750}],
            "[{from_step: 0, max_length: 4}, {from_step: 750}]",
        ),
        ("two words", '"two words"'),
    ],
)
def test_values_are_shown_in_few_words(value: Any, shown: str) -> None:
    assert show_value(value) == shown


def test_labels_keep_as_much_of_a_key_as_tells_it_from_the_others() -> None:
    keys = ["model.n_layers", "data.seed", "probe.seed", "seed"]
    assert list(short_keys(keys).values()) == ["n_layers", "data.seed", "probe.seed", "seed"]
    runs = [{"model.n_layers": n, "model.d_model": 16, SEED: 0} for n in (1, 2)]
    assert labels_of(runs) == ["n_layers=1", "n_layers=2"]
    assert labels_of(runs[:1]) == [ALL_RUNS]


def test_two_runs_of_one_seed_are_not_two_seeds() -> None:
    runs = [{SEED: 0, "x": 1.0}, {SEED: 0, "x": 3.0}, {SEED: 1, "x": 5.0}]
    (setting,) = group_runs(runs, [{SEED: run[SEED]} for run in runs], (SEED,))
    assert setting.n_seeds == 2 and len(setting.runs) == 3
    assert setting.over_seeds(lambda run: run["x"]) == [2.0, 5.0]
    assert setting.read(lambda run: run["x"] if run["x"] > 4 else None).n_seeds == 1


def test_what_changes_with_a_place_is_not_said_again() -> None:
    runs = [{"d": 16, "std": 0.1, "n": 1}, {"d": 64, "std": 0.05, "n": 1}, {"d": 64, "std": 0.05, "n": 2}]
    settings = group_runs(runs, runs, (SEED,))
    lines = series_labels(settings, lambda setting: setting.values["d"])
    assert list(lines.values()) == ["n=1", "n=1", "n=2"]
    assert goes_with(settings, "std", lambda setting: setting.values["d"])
    both = series_labels(settings, lambda setting: setting.values["d"], lambda setting: setting.values["n"])
    assert set(both.values()) == {ALL_RUNS}
