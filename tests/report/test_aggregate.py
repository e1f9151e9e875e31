"""Means over seeds, their intervals, and which measures matter."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from report_runs import write_rows, write_run

from nanollama.report.aggregate import (
    final_measures,
    flatten,
    group_by_seed,
    headlines,
    mean_interval,
    student_quantile,
)
from nanollama.report.runs import read_run, read_runs


@pytest.mark.parametrize("n_freedom", [1, 2, 3, 4, 5, 9, 10, 29, 30, 101, 1000])
def test_student_quantiles_are_scipys(n_freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_quantile(n_freedom) == pytest.approx(stats.t.ppf(0.975, n_freedom), rel=1e-9)


def test_the_interval_of_a_mean_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = [0.9, 0.8, 0.95, 0.7]
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 3, loc=mean, scale=stats.sem(values))
    assert mean == pytest.approx(0.8375)
    assert (low, high) == pytest.approx(expected)


def test_one_value_has_no_interval() -> None:
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_interval_of_a_share_ends_at_0_and_1() -> None:
    assert mean_interval([0.9, 1.0])[2] > 1
    mean, low, high = mean_interval([0.9, 1.0], is_share=True)
    assert (mean, low, high) == (0.95, mean_interval([0.9, 1.0])[1], 1.0)
    assert mean_interval([0.0, 0.1], is_share=True).low == 0.0
    assert math.isnan(mean_interval([0.5], is_share=True).low)


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_headlines_are_measures_with_intervals_without_their_refinements(tmp_path: Path) -> None:
    assert headlines([read_run(write_run(tmp_path / "one"))]) == ["recall_trained"]


def test_without_intervals_all_measures_are_headlines(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    write_rows(folder / "evals.jsonl", [{"step": 1, "loss_nats": 1.0, "gap_nats": 0.5, "note": "text"}])
    assert headlines([read_run(folder)]) == ["loss_nats", "gap_nats"]


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
