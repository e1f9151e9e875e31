"""What this study adds to the page of a grid: parameters needed, capacity, crossings."""

from __future__ import annotations

import csv
import html
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_run import toy_config

from apps.memory.grid.tables import (
    arm_of,
    axis_of,
    crossing_step,
    exposures,
    measure_settings,
    name_series,
    params_needed,
    params_per_fact,
    read_published,
)
from apps.memory.grid_sections import (
    crossing_blocks,
    needed_blocks,
    published_needs,
    recall_bars,
    results_table,
)
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.expect import Expectation
from nanollama.launcher.grid.outcome import judge_grid, write_grid_page
from nanollama.launcher.grid.results import GridResults
from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.monitor.run_folder import EVALS
from nanollama.report.page import Picture, Words
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
                    values = {
                        "data.sources": [{"kind": kind}],
                        "data.n_people": people,
                        "model.d_model": width,
                        "training.seed": seed,
                    }
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
    measured = measure_settings(GridResults(plan, rows))
    assert len(measured) == 12 and axis_of(measured) == "people"
    needed = params_needed(measured, "people", name_series(plan, "people", "width"))
    found = {(row["arm"], row["people"]): row["parameters"] for row in needed}
    assert found == {
        ("in-weight", 100): 6_248,
        ("in-weight", 400): 10_908,
        ("in-tool", 100): 6_248,
        ("in-tool", 400): 6_248,
    }
    assert all(row["low"] <= row["parameters"] for row in needed)
    assert params_per_fact(needed) == {"in-weight": pytest.approx((10_908 - 6_248) / (4 * 300))}


def test_nothing_is_needed_where_nothing_was_enough(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path, kinds=("qa",))
    failed = [{**row, "recall_trained": 0.1} for row in rows]
    series = name_series(plan, "people", "width")
    needed = params_needed(measure_settings(GridResults(plan, failed)), "people", series)
    assert [row["parameters"] for row in needed] == [None, None]
    assert params_per_fact(needed) == {}


def test_only_finished_runs_count(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path, kinds=("qa",))
    for row in rows[1:]:
        row["status"] = "preempted"
    for run, last in zip(plan.runs[:2], (0.8, 0.2), strict=True):  # the second may yet cross one half
        run.folder.mkdir(parents=True)
        (run.folder / EVALS).write_text(json.dumps({"step": 50, "recall_new_names": last}) + "\n")
    grid = GridResults(plan, rows)
    (found,) = measure_settings(grid)
    recall = found.final("recall_trained")
    assert recall is not None and recall.n == found.setting.n_seeds == 1 and math.isnan(recall.low)
    (table,) = crossing_blocks(grid)
    assert isinstance(table, Table) and table.rows == (("n_people=100, d_model=4", "50"),)


def test_arms_and_exposures(tmp_path: Path) -> None:
    def config(*sources: dict[str, Any]) -> Any:
        keys = {"data": {"n_people": 10, "sources": list(sources)}}
        if {"kind": "text"} in sources:
            keys |= {
                "text": {"files": ["text.txt"], "seq_len": 16},
                "model": {"implementation": "hugging_face", "path": "base", "max_seq_len": 256},
            }
        return toy_config(tmp_path, **keys)

    assert arm_of(config({"kind": "qa"}, {"kind": "biographies"})) == "in-weight"
    assert arm_of(config({"kind": "qatool"})) == "in-tool"
    assert arm_of(config({"kind": "qa", "weight": 3}, {"kind": "qatool"})) == "mixed, 25% ask"
    assert arm_of(config({"kind": "text"})) == "text alone"
    assert exposures(config({"kind": "qa"})) == pytest.approx(100 * 8 / 40)
    assert exposures(config({"kind": "qa"}, {"kind": "biographies"})) == pytest.approx(400 / 40 + 400 / 10)
    assert exposures(config({"kind": "qa"}, {"kind": "text"})) == pytest.approx(400 / 40)
    assert exposures(config({"kind": "qa"}, {"kind": "sums"})) == pytest.approx(400 / 40)
    assert exposures(config({"kind": "text"})) == 0


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


def test_the_slope_stands_beside_that_of_the_published_table_by_the_same_fit(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path)
    blocks = needed_blocks(
        measure_settings(GridResults(plan, rows)), "people", name_series(plan, "people", "width")
    )
    (words,) = (block.text for block in blocks if isinstance(block, Words))
    found = [row for row in read_published("params_needed") if row["in_weight_params"] is not None]
    slope = np.polyfit([row["n_facts"] for row in found], [row["in_weight_params"] for row in found], 1)[0]
    assert f"of the published sizes {slope:.2f}; the paper says 8.1" in words and f"{slope:.2f}" == "6.51"


@pytest.mark.parametrize(
    ("axis", "people", "alphas", "source"),
    [
        ("people", 100, (None, None), "published"),
        ("people", 100, (0.5, 0.5), ""),
        ("alpha", 1000, (0.0, 1.0), "published, 1,000 people, one seed"),
        ("alpha", 8192, (0.0, 1.0), ""),
    ],
)
def test_published_sizes_stand_beside_what_they_are_of(
    axis: str, people: int, alphas: tuple[float | None, ...], source: str, tmp_path: Path
) -> None:
    plan, rows = make_plan(tmp_path)
    first, second = measure_settings(GridResults(plan, rows))[:2]
    measured = [
        replace(found, people=people, alpha=alpha, width=width)
        for found, alpha, width in zip((first, second), alphas, (4, 8), strict=True)
    ]
    published, said = published_needs(measured, axis)
    assert said == source and bool(published) == bool(source)
    blocks = needed_blocks(measured, axis, name_series(plan, axis, "width"))
    (picture,) = (block for block in blocks if isinstance(block, Picture))
    labels = [line.get_label() for line in picture.figure.axes[0].lines]
    assert (f"in-weight, {source}" in labels) == bool(source)
    assert ("arXiv" in picture.caption) == bool(source)


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
    write_grid_page(judge_grid(plan, rows))
    page = (tmp_path / "report.html").read_text()
    for text in ("all is known", "MISSED", "Parameters needed", "more parameters", "2 bits"):
        assert text in page
    crossings = (tmp_path / "figures" / "what-was-never-shown_1.csv").read_text()
    assert '"sources=[{kind: qa}], n_people=100, d_model=4","100, never"' in crossings
    names = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    measures = ("recall_trained", "recall_new_names", "bits_per_parameter")
    by_axis = {f"{name}_by_{axis}" for name in measures for axis in ("n_people", "d_model")}
    assert names == {*by_axis, "recall_new_names_by_step", "parameters_needed", "capacity"}
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_settings_without_an_axis_are_bars(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path)
    plan = replace(plan, runs=[run for run in plan.runs if "-400-8-" in run.name])
    measured = measure_settings(GridResults(plan, rows))
    picture = recall_bars(measured, name_series(plan))
    assert picture.alt.startswith("in-tool, trained people: 0.985; in-weight, trained people: 0.205")


def test_people_are_no_axis_where_each_arm_learns_about_one_number_of_them(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path)
    two = ("qa-100-8", "qatool-400-8")
    grid = GridResults(replace(plan, runs=[run for run in plan.runs if run.name.startswith(two)]), rows)
    assert axis_of(measure_settings(grid)) is None


def test_few_settings_are_columns_of_what_readers_ask_for(tmp_path: Path) -> None:
    plan, rows = make_plan(tmp_path)
    of_run = {"recall_unseen": 0.5, "recall_unseen_low": 0.4, "recall_unseen_high": 0.6, "seconds": 123.456}
    rows = [
        row | of_run | ({"valid_calls_unseen": 0.98765} if "qatool" in row["run"] else {}) for row in rows
    ]
    chosen = ("qa-100-8-0", "qatool-400-8-0")
    one_seed = replace(plan, runs=[run for run in plan.runs if run.name in chosen])
    table = results_table(GridResults(one_seed, rows))
    assert table is not None and table.columns == ("", "in-tool", "in-weight")
    assert dict((row[0], row[1:]) for row in table.rows) == {
        "recall: trained people": ("0.98", "0.98"),
        "recall: unseen people": ("0.500 [0.400, 0.600]",) * 2,
        "recall: new names": ("0.49", "0.49"),
        "valid requests: unseen people": ("0.9877", "-"),
        "people learned from": ("400", "100"),
        "parameters": ("6,248", "6,248"),
        "bits stored per parameter": ("-", "0.98"),
        "seconds, examinations included": ("123.5", "123.5"),
    }
    both_seeds = replace(plan, runs=[run for run in plan.runs if run.name[:-2] in ("qa-100-8", "qa-400-8")])
    table = results_table(GridResults(both_seeds, rows))
    assert table is not None and table.columns[1:] == ("in-weight, n_people=100", "in-weight, n_people=400")
    assert results_table(GridResults(plan, rows)) is None and results_table(GridResults(plan, [])) is None


def make_pair(folder: Path, key: str, values: tuple[Any, Any]) -> tuple[Plan, list[dict[str, Any]]]:
    """Three seeds of two settings at two numbers of people: one setting knows all, the other nothing."""
    section, _, name = key.partition(".")
    runs, rows = [], []
    for people, number, seed in itertools.product((100, 400), (0, 1), range(3)):
        path = folder / f"{people}-{number}-{seed}"
        changes: dict[str, Any] = {
            "data": {"n_people": people, "sources": [{"kind": "qa"}]},
            "training": {"n_steps": 100, "batch_size": 8, "seed": seed, "eval_every": 50},
        }
        changes[section][name] = values[number]
        varied = {key: values[number], "data.n_people": people, "training.seed": seed}
        runs.append(GridRun(path.name, path, toy_config(path, **changes), varied))
        recalls = {"recall_trained": 1.0 - number, "recall_new_names": 1.0 - number}
        rows.append({"run": path.name, "status": "finished", "n_params": 6_248, **varied, **recalls})
        path.mkdir()
        (path / EVALS).write_text(json.dumps({"step": 50, **recalls}) + "\n")
    plan = Plan(
        "pair", folder, "apps.memory.train", runs, "training.seed", False, LocalConfig(), SlurmConfig()
    )
    return plan, rows


@pytest.mark.parametrize(
    ("key", "values", "labels"),
    [
        ("training.precision", ("float32", "bfloat16"), ("precision=float32", "precision=bfloat16")),
        (
            "data.sources",
            ([{"kind": "qa"}], [{"kind": "qa"}, {"kind": "biographies"}]),
            ("sources=[{kind: qa}]", "sources=[{kind: qa}, {kind: biographies}]"),
        ),
    ],
)
def test_different_settings_are_rows_and_lines_of_their_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    values: tuple[Any, Any],
    labels: tuple[str, str],
) -> None:
    monkeypatch.setattr("nanollama.report.command.FORMATS", ())
    plan, rows = make_pair(tmp_path, key, values)
    write_grid_page(GridResults(plan, rows))
    text = (tmp_path / "figures" / "results_1.csv").read_text()
    table = list(csv.DictReader(text.splitlines()))
    assert [row["seeds"] for row in table] == ["3"] * 4
    alike = ("0.000 [0.000, 0.708]", "1.000 [0.292, 1.000]")  # three shares that are the same
    assert sorted(row["recall trained"] for row in table) == [share for share in alike for _ in range(2)]
    page = html.unescape((tmp_path / "report.html").read_text())
    for label, share in zip(labels, ("1.000", "0.000"), strict=True):
        assert f"{label} ends at {share}" in page
        assert f"{label}, n_people=400" in page


def test_the_smallest_model_is_sought_among_those_of_one_setting(tmp_path: Path) -> None:
    plan, rows = make_pair(tmp_path, "training.precision", ("float32", "bfloat16"))
    needed = params_needed(
        measure_settings(GridResults(plan, rows)), "people", name_series(plan, "people", "width")
    )
    found = {(row["series"], row["people"]): row["parameters"] for row in needed}
    assert found == {
        ("in-weight, precision=float32", 100): 6_248,
        ("in-weight, precision=bfloat16", 100): None,
        ("in-weight, precision=float32", 400): 6_248,
        ("in-weight, precision=bfloat16", 400): None,
    }
