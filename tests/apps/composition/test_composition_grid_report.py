"""Tests of the page of a grid."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.composition import grid_report
from apps.composition.grid_report import axis_pictures, measures_table, read_settings
from nanollama.config import Config
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.report.grouping import Setting, group_runs
from nanollama.report.page import Picture

Row = Mapping[str, Any]


def make_settings(*points: tuple[dict[str, object], float | None]) -> list[Setting[Sequence[Row]]]:
    """Settings of two seeds with an accuracy each."""
    runs = [
        [{"step": 1} if accuracy is None else {"step": 1, "test_accuracy_long": accuracy}]
        for _, accuracy in points
        for _ in range(2)
    ]
    values = [{**varied, "training.seed": seed} for varied, _ in points for seed in range(2)]
    return group_runs(runs, values, ("training.seed",))


def pictures_of(settings: list[Setting[Sequence[Row]]]) -> list[Picture]:
    return list(axis_pictures(settings, settings))


def make_plan(folder: Path, settings: Sequence[Mapping[str, Any]]) -> tuple[Plan, list[dict[str, Any]]]:
    """A grid of two seeds of each setting, of which the first is right and the others are wrong."""
    runs = [
        GridRun(f"{number}-{seed}", folder / f"{number}-{seed}", Config(), {**values, "training.seed": seed})
        for number, values in enumerate(settings)
        for seed in (6, 7)
    ]
    for run in runs:
        run.folder.mkdir()
        accuracy = 1.0 if run.name.startswith("0") else 0.0
        (run.folder / "evals.jsonl").write_text(f'{{"step": 1, "test_accuracy": {accuracy}}}\n')
    module = "apps.composition.train"
    plan = Plan("grid", folder, module, runs, "training.seed", False, LocalConfig(), SlurmConfig())
    return plan, [{"run": run.name, "status": "finished", **run.values} for run in runs]


@pytest.mark.parametrize(
    "settings",
    [
        [{"phases": [{"from_step": 0, "max_length": 4}]}, {"phases": [{"from_step": 0, "min_length": 4}]}],
        [{"phases": []}, {"phases": "phases none"}],
        [{"a.kind": "copy, copy", "b.kind": "parity"}, {"a.kind": "copy", "b.kind": "copy, parity"}],
        [{"task": "task 1"}, {"task": 1}],
    ],
)
def test_different_settings_are_rows_of_their_own(tmp_path: Path, settings: list[dict[str, Any]]) -> None:
    plan, rows = make_plan(tmp_path, settings)
    grid_report.write(plan, rows, [])
    text = (tmp_path / "figures" / "results_1.csv").read_text()
    table = list(csv.DictReader(text.splitlines()))
    assert [(row["seeds"], row["test accuracy"]) for row in table] == [
        ("2", "1.000 [0.158, 1.000]"),
        ("2", "0.000 [0.000, 0.842]"),
    ]
    assert table[0]["setting"] != table[1]["setting"]


def test_values_that_change_together_make_one_line_on_one_axis() -> None:
    zipped = make_settings(
        ({"model.d_model": 16, "model.init_std": 0.1}, 0.2),
        ({"model.d_model": 64, "model.init_std": 0.05}, 0.9),
    )
    (picture,) = pictures_of(zipped)
    assert picture.name == "test_accuracy_long_by_d_model"
    assert "all runs ends at 0.900" in picture.alt


def test_values_that_change_freely_are_lines_of_each_other() -> None:
    product = make_settings(
        *(
            ({"model.d_model": d_model, "model.n_layers": n_layers}, 0.5)
            for d_model in (16, 64)
            for n_layers in (1, 2)
        )
    )
    by_width, by_depth = pictures_of(product)
    assert (by_width.name, by_depth.name) == (
        "test_accuracy_long_by_d_model",
        "test_accuracy_long_by_n_layers",
    )
    assert "n_layers=1 ends at" in by_width.alt and "n_layers=2 ends at" in by_width.alt


def test_lines_of_a_grid_that_goes_on_are_those_of_the_grid() -> None:
    """Of what has finished, depth goes with width; of the grid, it does not."""
    product = make_settings(
        *(
            ({"model.d_model": d_model, "model.n_layers": n_layers}, 0.5)
            for d_model in (16, 64)
            for n_layers in (1, 2)
        )
    )
    by_width, _ = axis_pictures([product[0], product[3]], product)
    assert "n_layers=1 ends at" in by_width.alt and "n_layers=2 ends at" in by_width.alt


def test_what_was_measured_at_one_place_only_is_no_line() -> None:
    assert not pictures_of(make_settings(({"model.n_layers": 2}, 0.5), ({"model.n_layers": 1}, None)))


def test_intervals_of_shares_end_at_1_and_those_of_other_measures_do_not() -> None:
    names = ("test_accuracy", "iteration_entropy_bits")
    runs = [[{"step": 1, **dict.fromkeys(names, value)}] for value in (0.9, 1.0)]
    table = measures_table(group_runs(runs, [{"training.seed": seed} for seed in (0, 1)], ("training.seed",)))
    assert table.rows == (("all runs", "2", "0.950 [0.000, 1.000]", "0.950 [0.315, 1.585]"),)


def test_runs_that_differ_in_their_seed_alone_are_one_setting(tmp_path: Path) -> None:
    (setting,) = read_settings(*make_plan(tmp_path, [{}]))
    assert setting.label == "all runs" and setting.n_seeds == 2
