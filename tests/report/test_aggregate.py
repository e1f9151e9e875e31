"""Means over seeds, their intervals, and which measures matter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_rows, write_run

from nanollama.measures import headline_names
from nanollama.report.aggregate import (
    final_measures,
    flatten,
    group_by_seed,
    headlines,
    is_share,
    over_seeds,
    seeds_or_own,
)
from nanollama.report.grouping import Setting, group_runs
from nanollama.report.runs import read_run, read_runs
from nanollama.statistics import Interval, mean_interval, seeds_interval


def measured(*rows: Mapping[str, Any]) -> Setting[Mapping[str, Any]]:
    (setting,) = group_runs(rows, [{"seed": seed} for seed in range(len(rows))], ("seed",))
    return setting


def test_seeds_with_intervals_of_their_own_have_that_of_both() -> None:
    rows = [{"recall": mean, "recall_low": mean - 0.1, "recall_high": mean + 0.05} for mean in (0.5, 0.7)]
    own = [Interval(mean, mean - 0.1, mean + 0.05, 1) for mean in (0.5, 0.7)]
    assert over_seeds(measured(*rows), "recall") == pytest.approx(seeds_interval(own))
    alike = {"recall": 1.0, "recall_low": 0.963, "recall_high": 1.0}
    assert over_seeds(measured(alike, alike), "recall") == (1.0, 0.963, 1.0, 2)


def test_where_a_seed_lacks_its_interval_the_means_alone_count() -> None:
    rows = [{"bits": 0.5, "bits_low": 0.4, "bits_high": 0.6}, {"bits": 0.7}]
    assert over_seeds(measured(*rows), "bits") == mean_interval([0.5, 0.7])


def test_a_single_run_has_its_own_interval_and_is_no_sample_of_seeds() -> None:
    row = {"recall": 0.5, "recall_low": 0.4, "recall_high": 0.6, "loss": 2.0}
    assert seeds_or_own(measured(row), "recall") == (0.5, 0.4, 0.6, 1)
    for found in (over_seeds(measured(row), "recall"), seeds_or_own(measured(row), "loss")):
        assert found is not None and math.isnan(found.low)
    assert seeds_or_own(measured(row, row), "recall") == over_seeds(measured(row, row), "recall")
    assert seeds_or_own(measured({"loss": None}), "loss") is None


def test_where_a_run_lacks_the_measure_there_is_no_mean() -> None:
    assert over_seeds(measured({"loss": 0.5}, {"loss": None}), "loss") is None
    assert over_seeds(measured({"loss": 0.5}, {"loss": math.inf}), "loss") is None


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("recall_trained", [0.0, 1.0], True),
        ("eoi_peakiness_long", [1.0 + 1e-7], True),
        ("tool_use_trained", [], True),
        ("test/accuracy/length_5", [0.5], True),
        ("loss_nats", [0.5], False),
        ("recalled", [0.5], False),
        ("accuracy", [0.9, 87.0], False),
        ("accuracy_gain", [-0.1, 0.2], False),
        ("recall_nats", [0.5], False),
        ("recall_bits/length_5", [0.5], False),
        ("recall_seconds", [0.5], False),
    ],
)
def test_shares_are_known_by_a_word_of_their_name_and_by_their_values(
    name: str, values: list[float], expected: bool
) -> None:
    assert is_share(name, values) is expected


def test_percentages_have_the_interval_of_any_number() -> None:
    rows = [{"accuracy": value, "accuracy_low": value - 2, "accuracy_high": value + 1} for value in (86, 88)]
    own = [Interval(value, value - 2, value + 1, 1) for value in (86, 88)]
    assert over_seeds(measured(*rows), "accuracy") == pytest.approx(seeds_interval(own, is_share=False))
    alone = [{"accuracy": value} for value in (86, 88)]
    assert over_seeds(measured(*alone), "accuracy") == mean_interval([86, 88])


def test_headlines_are_measures_with_intervals_without_their_refinements(tmp_path: Path) -> None:
    assert headlines([read_run(write_run(tmp_path / "one"))]) == ["recall_trained"]


def test_without_intervals_all_measures_are_headlines(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    write_rows(folder / "evals.jsonl", [{"step": 1, "loss_nats": 1.0, "gap_nats": 0.5, "note": "text"}])
    assert headlines([read_run(folder)]) == ["loss_nats", "gap_nats"]


def test_details_are_no_headlines_unless_there_is_nothing_else() -> None:
    details = [f"test/layer_{n}/peakiness" for n in range(40)]
    assert headline_names(["test_accuracy", *details]) == ["test_accuracy"]
    with_interval = ["kl_nats", "kl_nats/positions_0_0"]
    ends = [name + end for name in with_interval for end in ("_low", "_high")]
    assert headline_names([*with_interval, *ends]) == ["kl_nats"]
    assert headline_names(details) == details


def test_a_study_names_its_headlines(tmp_path: Path) -> None:
    row = {"step": 1, "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "input_norm": 3.0}
    row |= {"learned_nats": 0.25, "loss_nats": 5.0}
    for name in ("tying", "elsewhere", "memory"):
        run = write_run(tmp_path / name)
        write_rows(run / "evals.jsonl", [row])
        (run / "config.yaml").write_text(f"study: {name}\n")
    runs = read_runs([tmp_path / "tying", tmp_path / "elsewhere", tmp_path / "memory"])
    assert headlines(runs[:1]) == ["loss_nats", "accuracy", "learned_nats"]
    assert headlines(runs[1:2]) == headlines(runs[2:]) == ["accuracy"], "by their names"
    assert headlines(runs[1:]) == ["accuracy"]
    assert headlines(runs) == ["loss_nats", "accuracy", "learned_nats"]


def test_a_run_that_was_never_evaluated_has_no_measures(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    (folder / "evals.jsonl").unlink()
    assert final_measures(read_run(folder)) == {}


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "small_0", seed=0),
        write_run(tmp_path / "large_0", seed=0, d_model=64),
        write_run(tmp_path / "small_1", seed=1),
        write_run(tmp_path / "large_1", seed=1, d_model=64),
        write_run(tmp_path / "largest", d_model=128),
    ]
    groups = group_by_seed(read_runs(folders))
    assert [(name, setting.n_seeds) for name, setting in groups] == [
        ("d_model=32", 2),
        ("d_model=64", 2),
        ("largest", 1),
    ]


def test_the_only_group_is_named_after_its_config(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "a", seed=0), write_run(tmp_path / "b", seed=1)])
    assert [name for name, _ in group_by_seed(runs)] == ["a"]


def test_sections_become_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [1]}, "e": 2}) == {"a.b.c": 1, "a.d": [1], "e": 2}
    assert flatten({"a": {}}) == {"a": {}}
