"""The runner of benchmarks; what they measure is not for tests."""

from __future__ import annotations

import importlib
import json
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks.row import Row
from benchmarks.turns import Step, seconds_a_step

FAST = Row("dialogs", 300.0, "dialogs/s", 100.0, "another loop")
CHEAP = Row("data", 10.0, "s", 15.0, "aim")
ALONE = Row("memory", 230.0, "MiB")


@pytest.mark.parametrize(("row", "ratio"), [(FAST, 3.0), (CHEAP, 1.5), (ALONE, None)])
def test_ratios_above_one_are_in_our_favour(row: Row, ratio: float | None) -> None:
    assert row.ratio == ratio


def test_the_table_shows_both_sides_with_their_unit() -> None:
    assert runner.to_table({"x": [FAST, ALONE]}).rows == (
        ("x: dialogs", "300 dialogs/s", "100 dialogs/s", "another loop", "3.00"),
        ("x: memory", "230 MiB", "-", "-", "-"),
    )


def test_results_of_other_benchmarks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results.json")
    runner.merge({"a": [FAST], "b": [CHEAP]})
    runner.merge({"b": [ALONE]})
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["work"] for row in results["a"]["rows"]] == ["dialogs"]
    assert [row["work"] for row in results["b"]["rows"]] == ["memory"]
    assert results["a"]["rows"][0]["ratio"] == 3.0
    assert results["a"]["hardware"]["n_cores"] >= 1


@pytest.mark.parametrize("name", runner.names())
def test_every_benchmark_has_rows(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}_speed").rows)


def slow_at(number: int, limit: int) -> Step:
    """Steps up to a limit, one of which takes its time."""

    def step(asked: int) -> None:
        assert asked < limit, "no such step"
        time.sleep(0.2 if asked == number else 0.0)

    return step


def test_contestants_take_the_same_steps_and_their_median_counts() -> None:
    makers = {"alone": partial(slow_at, 4, limit=5), "beside": partial(slow_at, 0, limit=5)}
    found = seconds_a_step(makers, n_turns=2, n_steps=2, n_warm=1)
    assert found["alone"] >= 0.05, "half of a turn of two steps, as the median of a slow turn and a fast one"
    assert found["beside"] < found["alone"], "the warm-up is not counted"


def test_a_contestant_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="The contestant 'short' has failed"):
        seconds_a_step({"short": partial(slow_at, 0, limit=4)}, n_turns=2, n_steps=2, n_warm=1)
    assert "no such step" in capfd.readouterr().err


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        runner.main(["none"])
    assert exit_info.value.code == 2
    assert "no benchmark none; there are" in capsys.readouterr().err
