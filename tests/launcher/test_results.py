"""Means and intervals over the runs of a grid, as they are shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nanollama.config import Config, dump_config
from nanollama.errors import UserError
from nanollama.launcher.grid import commands
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.results import GridResults, collect, summary_lines
from nanollama.launcher.plan import Plan, read_grid
from nanollama.launcher.settings import LocalConfig, SlurmConfig


def make_plan(keys: Sequence[str], points: Sequence[Sequence[Any]]) -> Plan:
    runs = [
        GridRun(str(number), Path(str(number)), Config(), dict(zip(keys, point, strict=True)))
        for number, point in enumerate(points)
    ]
    return Plan("g", Path("g"), "apps.memory.train", runs, "seed", False, LocalConfig(), SlurmConfig())


def row_of(run: GridRun, **measures: float) -> dict[str, Any]:
    return {"run": run.name, **run.values, "status": "finished", **measures}


def test_the_summary_shows_what_runs_are_compared_by() -> None:
    plan = make_plan(("d", "seed"), [(d, seed) for d in (1, 2, 3) for seed in (0, 2)])
    measures = {"recall_job": 0.3, "accuracy/5": 0.1, "step": 9}
    rows = []
    for run, recall in zip(plan.runs, (1.0, 1.0, 1.0, 0.5, 0.0, 0.5), strict=True):
        own = {"recall": recall, "recall_low": recall - 0.1, "recall_high": recall}
        rows.append(row_of(run, **own, loss=1.0, n_params=16592, **measures))
    rows[4]["status"] = "failed"
    rows[3]["loss"] = None
    assert list(summary_lines(GridResults(plan, rows))) == [
        "d=1 (2 seeds)",
        "  n_params  16,592",
        "  loss      1.000",
        "  recall    1.000 [0.900, 1.000]",
        "d=2 (2 seeds)",  # a measure that one of two seeds lacks is no mean over two
        "  n_params  16,592",
        "  recall    0.750 [0.000, 1.000]",
        "d=3 (1 seed)",  # its interval is the run's own
        "  n_params  16,592",
        "  loss      1.000",
        "  recall    0.500 [0.400, 0.500]",
    ]


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (("n", "seed"), ([1], [True])),
        (("phases", "seed"), ([[]], ["[]"])),
        (("data.n", "model.n", "seed"), ([1, 2], [2, 1])),
        (("a", "b", "seed"), (["x b=y", "z"], ["x", "y b=z"])),
    ],
)
def test_different_settings_are_never_one_in_the_summary(
    keys: Sequence[str], values: Sequence[Sequence[Any]]
) -> None:
    plan = make_plan(keys, [(*setting, seed) for setting in values for seed in (0, 1)])
    rows = [row_of(run, loss=float(number < 2)) for number, run in enumerate(plan.runs)]
    heads = [line for line in summary_lines(GridResults(plan, rows)) if line.endswith("(2 seeds)")]
    assert len(set(heads)) == 2
    assert [line for line in summary_lines(GridResults(plan, rows)) if "loss" in line] == [
        "  loss  1.000",
        "  loss  0.000",
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


def test_a_measure_of_the_name_of_a_key_that_varies_is_refused(tmp_path: Path) -> None:
    """A claim about it was judged by the value of the key."""
    plan = read_grid([write_grid(tmp_path, 1e-3, 1e-2)])
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        (run.folder / "config.yaml").write_text(dump_config(run.config), encoding="utf-8")
        measures = {"loss": 0.5, "training.optimizer": 0.9}
        result = {"status": "finished", "config_hash": run.id, "metrics": measures}
        (run.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"measured 'training\.optimizer', which is a key that the grid varies"
    ):
        collect(plan)


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
    assert "2 waiting, of 2\nThe others were left out: `nanollama grid run`" in capsys.readouterr().out


def test_runs_that_noted_what_they_were_measured_on_are_not_compared_with_others(tmp_path: Path) -> None:
    plan = read_grid([write_grid(tmp_path, 1e-3, 1e-2)])

    def collected(*environments: dict[str, Any], status: str = "finished") -> list[str]:
        for run, environment in zip(plan.runs, environments, strict=True):
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "config.yaml").write_text(dump_config(run.config), encoding="utf-8")
            (run.folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
            result = {"status": status, "config_hash": run.id, "metrics": {"accuracy": 0.5}}
            (run.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return [row["run"] for row in collect(plan)]

    old, new, nothing = {"commit": "a"}, {"measured": {"valid": "1f"}}, {"measured": {}}
    message = r"1 \(such as optimizer-0\) did not note which .* and 1 did: .* Remove"
    with pytest.raises(UserError, match=message):
        collected(old, new)
    assert len(collected(old, new, status="preempted")) == 2
    for pair in ((old, old), (new, new), (nothing, new), (old, nothing)):
        assert len(collected(*pair)) == 2
