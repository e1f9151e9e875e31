"""The runner of benchmarks; what they measure is not for tests."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks.row import Row

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


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        runner.main(["none"])
    assert exit_info.value.code == 2
    assert "no benchmark none; there are" in capsys.readouterr().err
