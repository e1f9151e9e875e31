"""Tests of the page of a grid."""

from pathlib import Path

from apps.composition.grid_report import Setting, axis_pictures, measures_table, read_settings
from nanollama.config import Config
from nanollama.launcher.grid import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import LocalConfig, SlurmConfig


def make_setting(values: dict[str, object], accuracy: float) -> Setting:
    return Setting(str(values), values, ([{"step": 1, "test_accuracy_long": accuracy}],) * 2)


def test_values_that_change_together_make_one_line_on_one_axis() -> None:
    zipped = [
        make_setting({"model.d_model": 16, "model.init_std": 0.1}, 0.2),
        make_setting({"model.d_model": 64, "model.init_std": 0.05}, 0.9),
    ]
    (picture,) = axis_pictures(zipped)
    assert picture.name == "test_accuracy_long_by_d_model"
    assert "all runs ends at 0.900" in picture.alt


def test_values_that_change_freely_are_lines_of_each_other() -> None:
    product = [
        make_setting({"model.d_model": d_model, "model.n_layers": n_layers}, 0.5)
        for d_model in (16, 64)
        for n_layers in (1, 2)
    ]
    by_width, by_depth = axis_pictures(product)
    assert (by_width.name, by_depth.name) == (
        "test_accuracy_long_by_d_model",
        "test_accuracy_long_by_n_layers",
    )
    assert "n_layers 1 ends at" in by_width.alt and "n_layers 2 ends at" in by_width.alt


def test_what_was_measured_at_one_place_only_is_no_line() -> None:
    once = [
        make_setting({"model.n_layers": 2}, 0.5),
        Setting("other", {"model.n_layers": 1}, ([{"step": 1}],) * 2),
    ]
    assert not list(axis_pictures(once))


def test_intervals_of_shares_end_at_1_and_those_of_other_measures_do_not() -> None:
    names = ("test_accuracy", "iteration_entropy_bits")
    evals = tuple([{"step": 1, **dict.fromkeys(names, value)}] for value in (0.9, 1.0))
    table = measures_table([Setting("both", {}, evals)])
    assert table.rows == (("both", "2", "0.950 [0.000, 1.000]", "0.950 [0.315, 1.585]"),)


def test_runs_that_differ_in_their_seed_alone_are_one_setting(tmp_path: Path) -> None:
    runs = [
        GridRun(f"seed-{seed}", tmp_path / f"seed-{seed}", Config(), {"training.seed": seed})
        for seed in (6, 7)
    ]
    for run in runs:
        run.folder.mkdir()
        (run.folder / "evals.jsonl").write_text('{"step": 1, "test_accuracy": 0.5}\n')
    module = "apps.composition.train"
    plan = Plan("seeds", tmp_path, module, runs, "training.seed", False, LocalConfig(), SlurmConfig())
    (setting,) = read_settings(plan, {"seed-6", "seed-7"})
    assert setting.label == "all runs" and len(setting.evals) == 2
