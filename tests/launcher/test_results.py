"""Means and intervals over the runs of a grid, as they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanollama.config import dump_config
from nanollama.errors import UserError
from nanollama.launcher import commands
from nanollama.launcher.plan import read_grid
from nanollama.launcher.results import over_seeds, show_mean, summary_lines
from nanollama.statistics import mean_interval


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([16592], "16,592"),
        ([16592, 16592], "16,592"),
        ([0.25], "0.25"),
        ([0.1234567, 0.1234567], "0.1235"),
        ([1.0, 2.0], "1.5 [-4.853, 7.853]"),
    ],
)
def test_a_mean_is_shown_with_its_interval(values: list[float], shown: str) -> None:
    assert show_mean(mean_interval(values)) == shown


def test_rows_are_grouped_by_setting() -> None:
    rows = [{"d": d, "seed": seed, "loss": float(d + seed)} for d in (1, 2) for seed in (0, 2)]
    found = over_seeds(rows, ["d"])
    assert {key: measures["loss"].mean for key, measures in found.items()} == {(1,): 2.0, (2,): 3.0}


def test_the_summary_shows_what_runs_are_compared_by() -> None:
    plan: Any = SimpleNamespace(runs=[SimpleNamespace(values={"d": 1, "seed": 0})], seed_key="seed")
    measures = {"recall_job": 0.3, "accuracy/5": 0.1, "step": 9}
    rows = [
        {
            "d": d,
            "seed": seed,
            "status": "finished",
            "recall": recall,
            "recall_low": recall - 0.1,
            "recall_high": recall,
            "loss": 1.0,
            **measures,
        }
        for d in (1, 2)
        for seed, recall in ((0, 1.0), (2, 1.0 if d == 1 else 0.5))
    ]
    assert list(summary_lines(plan, [*rows, {"d": 3, "seed": 0, "status": "failed", "loss": 7.0}])) == [
        "d=1 (2 runs)",
        "  loss    1",
        "  recall  1 [0.9, 1]",
        "d=2 (2 runs)",
        "  loss    1",
        "  recall  0.75 [0, 1]",
    ]


GRID = """\
study: memory
name: g
run_dir: {folder}
data: {{n_people: 32, sources: [{{kind: qa}}]}}
model: {{implementation: transformer, d_model: 32, n_layers: 2, n_heads: 2}}
training: {{n_steps: 10}}
grid:
  product:
    training.optimizer: [{{learning_rate: {rates[0]}}}, {{learning_rate: {rates[1]}}}]
"""


def write_grid(tmp_path: Path, *rates: float) -> str:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.format(folder=tmp_path / "runs", rates=rates), encoding="utf-8")
    return str(path)


def test_results_of_another_config_are_not_this_ones(tmp_path: Path) -> None:
    for run in read_grid([write_grid(tmp_path, 1e-3, 1e-2)]).runs:
        run.folder.mkdir(parents=True)
        (run.folder / "config.yaml").write_text(dump_config(run.config), encoding="utf-8")
        result = {"status": "finished", "config_hash": run.id, "metrics": {"loss": 0.5}}
        (run.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    turned = write_grid(tmp_path, 1e-2, 1e-3)  # sections are numbered in the names of runs
    message = r"runs/optimizer-0 belongs to another config, .*learning_rate is 0.001 there and 0.01 here"
    for look in (commands.results, commands.status):
        with pytest.raises(UserError, match=message):
            look([turned])


def test_a_retry_of_a_grid_without_failures_has_done_its_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.retry([write_grid(tmp_path, 1e-3, 1e-2)]) == 0
    assert "2 waiting, of 2\nThe others were not asked for: `nanollama grid run`" in capsys.readouterr().out
