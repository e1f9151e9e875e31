"""The page of any grid: settings are rows and lines of their own, and what each part says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import Checkout

from nanollama.config import Config
from nanollama.launcher.grid import outcome, sections
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.outcome import MAX_SHOWN, show_results, write_grid_page
from nanollama.launcher.grid.results import GridResults, final
from nanollama.launcher.grid.sections import (
    MAX_LINES,
    axis_pictures,
    claim_blocks,
    cost_table,
    curve,
    dialog_blocks,
    measures_table,
    training_blocks,
    unfinished_blocks,
)
from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import DIALOGS, EVALS, METRICS
from nanollama.report.page import Picture, Section, Words
from nanollama.report.runs import SampleDialog, write_samples
from nanollama.report.tables import Table
from nanollama.tokenizer import Message
from nanollama.training.intervention_config import LoadConfig
from nanollama.training.run_config import TrainingRunConfig

SEED = "training.seed"


def make_grid(*points: tuple[Mapping[str, Any], Sequence[Mapping[str, Any] | None]]) -> GridResults:
    """Settings, each with what its seeds have measured; None for a run that has not finished."""
    runs, rows = [], []
    for number, (values, measured) in enumerate(points):
        for seed, measures in enumerate(measured):
            run = GridRun(f"{number}-{seed}", Path("nowhere"), Config(), {**values, SEED: seed})
            runs.append(run)
            if measures is not None:
                rows.append({"run": run.name, **run.values, "status": "finished", "step": 9, **measures})
    plan = Plan("g", Path("g"), "apps.memory.train", runs, SEED, False, LocalConfig(), SlurmConfig())
    return GridResults(plan, rows)


def recalls(*values: float | None) -> list[dict[str, Any] | None]:
    return [None if value is None else {"recall": value} for value in values]


@pytest.mark.parametrize(
    "settings",
    [
        [{"phases": [{"from_step": 0, "max_length": 4}]}, {"phases": [{"from_step": 0, "min_length": 4}]}],
        [{"phases": []}, {"phases": "phases none"}],
        [{"a.kind": "copy, copy", "b.kind": "parity"}, {"a.kind": "copy", "b.kind": "copy, parity"}],
        [{"task": "task 1"}, {"task": 1}],
    ],
)
def test_different_settings_are_rows_of_their_own(settings: list[dict[str, Any]]) -> None:
    table = measures_table(make_grid((settings[0], recalls(1, 1)), (settings[1], recalls(0, 0))))
    assert [row[1:] for row in table.rows] == [("2", "1.000 [0.158, 1.000]"), ("2", "0.000 [0.000, 0.842]")]
    assert table.rows[0][0] != table.rows[1][0]


def test_a_measure_that_one_seed_lacks_has_no_mean() -> None:
    grid = make_grid(({}, [{"recall": 0.5, "loss_nats": 1.0}, {"recall": 0.7, "loss_nats": None}]))
    (row,) = measures_table(grid).rows
    assert grid.measures == ["recall", "loss_nats"] and row[3] == "-" and row[2].startswith("0.600 [")


def test_intervals_of_shares_end_at_1_and_those_of_other_measures_do_not() -> None:
    grid = make_grid(({}, [{"test_accuracy": value, "entropy_bits": value} for value in (0.9, 1.0)]))
    row = ("all runs", "2", "0.950 [0.000, 1.000]", "0.950 [0.315, 1.585]")
    assert measures_table(grid).rows == (row,)


def test_values_that_change_together_make_one_line_on_one_axis() -> None:
    zipped = make_grid(
        ({"model.d_model": 16, "model.init_std": 0.1}, recalls(0.2, 0.2)),
        ({"model.d_model": 64, "model.init_std": 0.05}, recalls(0.9, 0.9)),
    )
    (picture,) = axis_pictures(zipped)
    assert picture.name == "recall_by_d_model" and "all runs ends at 0.900" in picture.alt


def product(*measured: Sequence[Mapping[str, Any] | None]) -> GridResults:
    sizes = [(d_model, n_layers) for d_model in (16, 64) for n_layers in (1, 2)]
    points = [{"model.d_model": d_model, "model.n_layers": n_layers} for d_model, n_layers in sizes]
    return make_grid(*zip(points, measured, strict=True))


def test_values_that_change_freely_are_lines_of_each_other() -> None:
    by_width, by_depth = axis_pictures(product(*[recalls(0.5, 0.5)] * 4))
    assert (by_width.name, by_depth.name) == ("recall_by_d_model", "recall_by_n_layers")
    assert "n_layers=1 ends at" in by_width.alt and "n_layers=2 ends at" in by_width.alt


def test_lines_of_a_grid_that_goes_on_are_those_of_the_grid() -> None:
    """Of what has finished, depth goes with width; of the grid, it does not."""
    done, waits = recalls(0.5, 0.5), recalls(None, None)
    by_width, _ = axis_pictures(product(done, waits, waits, done))
    assert "n_layers=1 ends at" in by_width.alt and "n_layers=2 ends at" in by_width.alt


def test_what_was_measured_at_one_place_only_is_no_line() -> None:
    lacks: list[Mapping[str, Any] | None] = [{"other": "text"}] * 2
    assert not list(axis_pictures(make_grid(({"n": 2}, recalls(0.5, 0.5)), ({"n": 1}, lacks))))


def write_evals(grid: GridResults, folder: Path, *curves: Sequence[float]) -> GridResults:
    """Runs whose recall at steps 10, 20, ... was this."""
    runs = []
    for run, values in zip(grid.plan.runs, curves, strict=True):
        evals = [{"step": 10 * number, "recall": value} for number, value in enumerate(values, start=1)]
        runs.append(GridRun(run.name, folder / run.name, run.config, run.values))
        runs[-1].folder.mkdir()
        (runs[-1].folder / EVALS).write_text("".join(json.dumps(row) + "\n" for row in evals))
    plan = grid.plan
    moved = Plan(plan.name, folder, plan.module, runs, plan.seed_key, False, plan.local, plan.slurm)
    return GridResults(moved, grid.rows)


def test_a_run_that_has_stopped_keeps_its_last_value(tmp_path: Path) -> None:
    grid = write_evals(make_grid(({}, recalls(0.9, 0.7))), tmp_path, [0.2, 0.9], [0.4, 0.5, 0.7])
    (setting,) = grid.settings
    points = [(step, found.mean) for _, step, found in curve(setting, "recall")]
    assert points == [(10, pytest.approx(0.3)), (20, pytest.approx(0.7)), (30, pytest.approx(0.8))]
    (picture,) = training_blocks(grid)
    assert isinstance(picture, Picture) and picture.name == "recall_by_step"
    assert picture.alt == "Recall by optimizer steps: all runs ends at 0.800."
    assert final(setting, "recall") == pytest.approx(list(curve(setting, "recall"))[-1][2])


@pytest.mark.parametrize(("optimizer", "begin"), [(True, [10, 30, 50]), (False, [10, 10, 10])])
def test_a_run_that_goes_on_with_the_moments_of_another_is_drawn_after_it(
    tmp_path: Path, optimizer: bool, begin: Sequence[int]
) -> None:
    """A chain of three runs of 20 steps."""
    grid = make_grid(*(({"arm": n}, recalls(0.9)) for n in range(3)))
    grid = write_evals(grid, tmp_path, [0.2, 0.3], [0.4, 0.5], [0.6, 0.7])
    load = LoadConfig(implementation="load", run=tmp_path, optimizer=optimizer)
    config = TrainingRunConfig.model_construct(interventions=(load,))
    first, second, third = grid.plan.runs
    grid.plan.runs[1:] = [
        GridRun(run.name, run.folder, config, run.values, (parent.name,))
        for run, parent in ((second, first), (third, second))
    ]
    grid = GridResults(grid.plan, [{**row, "step": 20} for row in grid.rows])
    assert [next(curve(setting, "recall"))[1] for setting in grid.settings] == begin
    assert any(isinstance(block, Words) for block in training_blocks(grid)) == optimizer


def test_what_never_changes_has_no_curve(tmp_path: Path) -> None:
    grid = make_grid(({"n": 1}, recalls(0.9)), ({"n": 2}, recalls(0.7)))
    for name, curves in (("floor", ([0.9, 0.9], [0.7, 0.7])), ("curve", ([0.9, 0.9], [0.7, 0.8]))):
        (tmp_path / name).mkdir()
        assert len(training_blocks(write_evals(grid, tmp_path / name, *curves))) == (name == "curve")


def test_a_step_at_which_a_seed_was_not_measured_has_no_mean(tmp_path: Path) -> None:
    grid = write_evals(make_grid(({}, recalls(0.9, 0.7))), tmp_path, [0.2, 0.9, 1, 1], [0.4, 0.5, 0.6, 0.7])
    path = tmp_path / grid.plan.runs[1].name / EVALS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace("0.5", "null") + lines[3])
    assert [step for _, step, _ in curve(grid.settings[0], "recall")] == [10, 40]


def test_too_many_lines_are_no_figure() -> None:
    grid = make_grid(*(({"n": n}, recalls(0.5)) for n in range(MAX_LINES + 1)))
    (words,) = training_blocks(grid)
    assert isinstance(words, Words) and words.text.startswith("13 settings are too many lines")


def test_what_runs_took_is_told_by_setting(tmp_path: Path) -> None:
    seconds = [{"seconds": 1800.0, "n_params": 1200}, {"seconds": 5400.0, "n_params": 1200}]
    table = cost_table(make_grid(({}, seconds)))
    assert table.caption.endswith("together took 2.00 hours.")
    assert table.rows == (("all runs", "2", "1,200", "9", "3,600", "-"),)
    grid = with_dialogs(make_grid(({}, seconds)), tmp_path)
    for name, peaks in (("0-0", (300.0, 900.4, 850.0)), ("0-1", (800.0,))):
        for step, peak in enumerate(peaks):
            RowFile(tmp_path / name / METRICS).append({"step": step, "peak_memory_mib": peak})
    assert cost_table(grid).rows[0][-1] == "900"  # of the largest run, before it was stopped


def test_runs_that_have_not_finished_are_listed() -> None:
    (table,) = unfinished_blocks(make_grid(({}, recalls(0.5, None, None))))
    assert table.rows == (("0-1", "waiting", "-"), ("0-2", "waiting", "-"))
    assert unfinished_blocks(make_grid(({}, recalls(0.5)))) == ()


def test_a_grid_without_claims_has_no_section_of_them() -> None:
    assert claim_blocks([], "") == ()


def with_dialogs(grid: GridResults, folder: Path) -> GridResults:
    """Its runs, each with dialogs of three kinds."""
    for run in grid.plan.runs:
        titles = ("known, city", "known, date", "unknown, city", "new, city")
        said = [
            SampleDialog(title, "x", False, (Message("user", f"Who is {run.name}?"),)) for title in titles
        ]
        (folder / run.name).mkdir()
        write_samples(folder / run.name / DIALOGS, said)
    runs = [GridRun(run.name, folder / run.name, run.config, run.values) for run in grid.plan.runs]
    return GridResults(replace(grid.plan, folder=folder, runs=runs), grid.rows)


def test_dialogs_are_those_of_the_first_run_of_each_setting(tmp_path: Path) -> None:
    grid = with_dialogs(make_grid(({"n": 1}, recalls(0.5, 0.5)), ({"n": 2}, recalls(None, 0.5))), tmp_path)
    blocks = dialog_blocks(grid)
    assert [(block.name, block.dialogs[0].messages[0].content) for block in blocks] == [
        ("n=1", "Who is 0-0?"),
        ("n=2", "Who is 1-1?"),
    ]
    assert dialog_blocks(make_grid(({}, recalls(0.5)))) == ()


@pytest.mark.parametrize(("n_settings", "n_dialogs"), [(MAX_SHOWN, 2 * MAX_SHOWN), (MAX_SHOWN + 1, 0)])
def test_of_few_settings_a_dialog_of_each_of_two_kinds_is_printed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    n_settings: int,
    n_dialogs: int,
) -> None:
    monkeypatch.setattr(outcome, "_of_study", lambda grid: None)
    grid = make_grid(*(({"n": n}, recalls(0.5)) for n in range(n_settings)))
    show_results(with_dialogs(grid, tmp_path))
    out = capsys.readouterr().out
    assert out.count("wrong, expected x") == n_dialogs
    assert ("n=0, known, city" in out) == ("n=0, unknown, city" in out) == bool(n_dialogs)
    assert "new, city" not in out and "known, date" not in out
    assert "recall" in out and (tmp_path / "table.csv").read_text().startswith("setting,seeds,recall")
    assert (tmp_path / "table.md").read_text().startswith("| setting")


def test_of_many_settings_the_table_is_only_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_results(with_dialogs(make_grid(*(({"n": n}, recalls(0.5)) for n in range(13))), tmp_path))
    assert capsys.readouterr().out == ""
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 14


def test_a_page_has_the_table_and_the_sections_that_its_study_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = with_dialogs(make_grid(({"n": 1}, recalls(0.5, None)), ({"n": 2}, recalls(0.25, 0.5))), tmp_path)
    table = Table("Counted otherwise.", ("otherwise",), (("four",),))
    section = Section("What the study adds", (Words("So it is."),))
    added = SimpleNamespace(results_table=lambda grid: table, grid_sections=lambda grid: [section])
    monkeypatch.setattr(outcome, "_of_study", lambda grid: added)
    monkeypatch.setattr(sections, "result_sections", lambda grid, found: [Section("Results", (found,))])
    monkeypatch.setattr(sections, "cost_sections", lambda grid: [Section("Cost", (Words("Much."),))])
    write_grid_page(grid)
    page = (tmp_path / "report.html").read_text()
    assert "<title>g" in page and "3 of 4 runs have finished, of 2 settings." in page
    places = [page.index(f">{text}<") for text in ("four", "So it is.", "Much.")]
    assert places == sorted(places) and ">What the study adds<" in page
    assert (tmp_path / "figures" / "results_1.csv").read_text().split() == ["otherwise", "four"]
    assert capsys.readouterr().out == f"wrote {tmp_path}/report.html and {tmp_path}/figures\n"


GRID = """\
name: paged
local: {n_jobs: 2}
grid:
  product: {training.optimizer.learning_rate: [0.01, 0.03]}
  zip: [{dropout: [0, 0.5], ending: [well, raise]}]
  seeds: 2
expect:
  - claim: faster is better
    runs: {training.optimizer.learning_rate: 0.03, ending: well}
    minus: {training.optimizer.learning_rate: 0.01, ending: well}
    measure: weight_norm
    at_most: 100
"""


@pytest.mark.slow
def test_a_study_that_adds_nothing_has_a_page(checkout: Checkout) -> None:
    checkout.draws = True
    checkout.write("paged.yaml", GRID)
    assert checkout.run("nanollama", "grid", "run", "paged.yaml").returncode == 1
    done = checkout.run("nanollama", "grid", "results", "paged.yaml")
    assert done.returncode == 1, "four runs have failed, of which nothing is claimed"
    assert "Ended without finishing: 4 runs of 8\n" in done.stdout and "MISSED" not in done.stdout
    folder = checkout.folder / "runs" / "paged"
    page = (folder / "report.html").read_text()
    for text in (
        "4 of 8 runs have finished, of 2 settings.",
        "faster is better: by seed",
        "RuntimeError: the toy is broken",
        "learning_rate=0.01, dropout=0, ending=well",
    ):
        assert text in page
    links = re.findall(r'<li><a href="([^"]+/)">', page)
    assert len(links) == 8 and all((folder / unquote(link) / "launch.yaml").exists() for link in links)
    differences = (folder / "figures" / "configs_1.csv").read_text().splitlines()
    assert differences[0] == "setting,dropout,ending,training.optimizer.learning_rate"
    assert len(differences) == 5
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {
        "weight_norm_by_learning_rate.svg",
        "weight_norm_by_step.pdf",
        "claims_2.csv",
        "cost_1.csv",
    } <= names
