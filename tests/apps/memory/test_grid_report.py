"""What is made of the rows of a grid: settings, parameters needed, crossings, and the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from toy_run import toy_config

from apps.memory import grid_report
from apps.memory.grid_tables import (
    arm_of,
    axis_of,
    by_setting,
    crossing_step,
    exposures,
    params_needed,
    params_per_fact,
    read_published,
)
from nanollama.launcher.grid import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.launcher.verdict import Expectation, judge
from nanollama.monitor.run_folder import EVALS
from nanollama.report.page import Picture
from nanollama.report.tables import Table

SIZES = {4: 2_612, 8: 6_248, 12: 10_908}


def make_plan(folder: Path, kinds: tuple[str, ...] = ("qa", "qatool")) -> tuple[Plan, list[dict[str, Any]]]:
    """In-weight, 100 people take d_model 8 and 400 take 12; in-tool, 8 is enough for any number."""
    runs, rows = [], []
    for kind in kinds:
        for people in (100, 400):
            for width in SIZES:
                for seed in (0, 1):
                    name = f"{kind}-{people}-{width}-{seed}"
                    config = toy_config(
                        folder / name,
                        data={"n_people": people, "sources": [{"kind": kind}]},
                        model={"d_model": width, "n_layers": 2, "n_heads": 2},
                        training={"n_steps": 100, "batch_size": 8, "seed": seed, "eval_every": 50},
                    )
                    values = {"data.n_people": people, "model.d_model": width, "training.seed": seed}
                    runs.append(GridRun(name, folder / name, config, values))
                    enough = width >= (8 if kind == "qatool" or people == 100 else 12)
                    recall = (0.98 if enough else 0.2) + 0.01 * seed
                    rows.append(
                        {
                            "run": name,
                            **values,
                            "status": "finished",
                            "n_params": SIZES[width],
                            "recall_trained": recall,
                            "recall_new_names": recall / 2,
                            **({"bits_per_parameter": recall} if kind == "qa" else {}),
                        }
                    )
    expect = Expectation(claim="all is known", measure="recall_trained", at_least=0.5)
    plan = Plan(
        name="toy",
        folder=folder,
        module="apps.memory.train",
        runs=runs,
        seed_key="training.seed",
        overwrite=False,
        local=LocalConfig(),
        slurm=SlurmConfig(),
        expect=(expect,),
    )
    return plan, rows


def test_the_smallest_model_that_learned_is_found(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path)
    measured = by_setting(plan.by_name, rows)
    assert len(measured) == 12 and axis_of(list(measured)) == "people"
    needed = params_needed(measured, "people")
    found = {(row["arm"], row["people"]): row["parameters"] for row in needed}
    assert found == {
        ("in-weight", 100): 6_248,
        ("in-weight", 400): 10_908,
        ("in-tool", 100): 6_248,
        ("in-tool", 400): 6_248,
    }
    assert all(row["low"] <= row["parameters"] for row in needed)
    assert params_per_fact(needed) == pytest.approx((10_908 - 6_248) / (4 * 300))


def test_nothing_is_needed_where_nothing_was_enough(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path, kinds=("qa",))
    failed = [{**row, "recall_trained": 0.1} for row in rows]
    needed = params_needed(by_setting(plan.by_name, failed), "people")
    assert [row["parameters"] for row in needed] == [None, None]
    assert params_per_fact(needed) is None


def test_only_finished_runs_count(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path, kinds=("qa",))
    for row in rows[1:]:
        row["status"] = "preempted"
    (found,) = by_setting(plan.by_name, rows).values()
    assert found["recall_trained"].n == 1 and math.isnan(found["recall_trained"].low)
    for run, last in zip(plan.runs[:2], (0.8, 0.2), strict=True):  # the second may yet cross one half
        run.folder.mkdir(parents=True)
        (run.folder / EVALS).write_text(json.dumps({"step": 50, "recall_new_names": last}) + "\n")
    picture, table = grid_report.training_blocks(plan, {plan.runs[0].name})
    assert isinstance(picture, Picture) and isinstance(table, Table)
    assert picture.alt == "in-weight crosses one half: 50"
    assert table.rows == (("in-weight", "50"),)


def test_seeds_that_agree_have_the_interval_of_their_questions(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path, kinds=("qa",))
    own = {"recall_trained": 1.0, "recall_trained_low": 0.963, "recall_trained_high": 1.0}
    measured = by_setting(plan.by_name, [{**row, **own} for row in rows[:2]])
    (found,) = measured.values()
    assert found["recall_trained"] == (1.0, 0.963, 1.0, 2)
    table = grid_report.recall_table(measured, ["trained"])
    assert "1.000 [0.963, 1.000]" in table.rows[0]
    (row,) = grid_report.series_rows(measured, "people", "recall_trained")
    assert (row["low"], row["mean"], row["high"]) == (0.963, 1.0, 1.0)


def test_arms_and_exposures(tmp_path: Path) -> None:
    def config(*sources: dict[str, Any]) -> Any:
        return toy_config(tmp_path, data={"n_people": 10, "sources": list(sources)})

    assert arm_of(config({"kind": "qa"}, {"kind": "biographies"})) == "in-weight"
    assert arm_of(config({"kind": "qatool"})) == "in-tool"
    assert arm_of(config({"kind": "qa", "weight": 3}, {"kind": "qatool"})) == "mixed, 25% ask"
    assert exposures(config({"kind": "qa"})) == pytest.approx(100 * 8 / 40)
    assert exposures(config({"kind": "qa"}, {"kind": "biographies"})) == pytest.approx(400 / 40 + 400 / 10)


@pytest.mark.parametrize(
    ("values", "step"), [([0.1, 0.6, 0.7], 2), ([0.6, 0.4, 0.5], 3), ([0.6, 0.4], None), ([], None)]
)
def test_a_crossing_is_for_good(values: list[float], step: int | None) -> None:
    rows = [{"step": number, "recall": value} for number, value in enumerate(values, start=1)]
    assert crossing_step(rows, "recall") == step


def test_published_figures_are_those_of_the_paper() -> None:
    rows = {row["n_people"]: row for row in read_published("params_needed")}
    assert rows[512]["in_weight_params"] == rows[512]["in_tool_params"] == 39_788
    assert rows[32768]["in_tool_params"] == 39_788 and rows[16384]["in_weight_params"] is None
    assert [row["params_needed"] for row in read_published("compressibility")] == [
        23_300,
        31_032,
        39_788,
        39_788,
        49_568,
    ]


@pytest.mark.slow
def test_the_page_shows_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nanollama.report.command.FORMATS", (".svg",))
    plan, rows = make_plan(tmp_path)
    for run in plan.runs[::4]:
        run.folder.mkdir(parents=True)
        evaluations = [{"step": 50, "recall_new_names": 0.2}, {"step": 100, "recall_new_names": 0.8}]
        (run.folder / EVALS).write_text("".join(json.dumps(row) + "\n" for row in evaluations))
    grid_report.write(plan, rows, judge(plan.expect, plan.runs, rows, "training.seed"))
    page = (tmp_path / "report.html").read_text()
    for text in ("all is known", "MISSED", "Parameters needed", "more parameters", "2 bits"):
        assert text in page
    assert "crosses one half: 100" in page
    names = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert names == {
        "recall_trained",
        "recall_new_names",
        "parameters_needed",
        "capacity",
        "through_training",
    }
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_settings_without_an_axis_are_bars(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path)
    measured = {
        setting: found
        for setting, found in by_setting(plan.by_name, rows).items()
        if (setting.people, setting.width) == (400, 8)
    }
    picture = grid_report.recall_bars(measured, ["trained", "new_names"])
    assert picture.alt.startswith("in-tool, trained person: 0.985; in-weight, trained person: 0.205")
