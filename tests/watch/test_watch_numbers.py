"""What the page shows is what the rows say."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from watched_runs import append, followed, rows_of, write_run

from nanollama.errors import UserError
from nanollama.report.aggregate import over_seeds
from nanollama.report.grouping import Setting
from nanollama.statistics import mean_interval
from nanollama.watch.curves import thin, trailing_mean, within
from nanollama.watch.series import View, groups
from nanollama.watch.watched import Watched


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for d_model in (16, 64):
        for seed in range(3):
            write_run(folder / f"d{d_model}_s{seed}", seed=seed, d_model=d_model)
    return folder


def test_a_line_of_a_run_is_its_rows(folder: Path) -> None:
    lines = followed(folder).curves(View("loss"))
    assert [line["name"] for line in lines] == sorted(path.name for path in folder.iterdir())
    for line in lines:
        rows = rows_of(folder / line["name"] / "metrics.jsonl")
        assert line["x"] == [row["step"] for row in rows]
        assert line["y"] == [row["loss"] for row in rows]
        assert "low" not in line


def test_a_line_of_an_evaluation_has_its_own_interval_and_the_time_of_its_step(folder: Path) -> None:
    line = followed(folder).curves(View("accuracy", x="elapsed_seconds"))[0]
    rows = rows_of(folder / line["name"] / "evals.jsonl")
    for key, name in (("y", "accuracy"), ("low", "accuracy_low"), ("high", "accuracy_high")):
        assert line[key] == [row[name] for row in rows]
    assert line["x"] == [row["step"] / 20 for row in rows]


def test_a_band_is_the_interval_over_seeds_at_each_step(folder: Path) -> None:
    lines = followed(folder).curves(View("loss", group="setting"))
    assert [(line["name"], line["n"]) for line in lines] == [("d_model=16", 3), ("d_model=64", 3)]
    for line, d_model in zip(lines, (16, 64), strict=True):
        seeds = [rows_of(folder / f"d{d_model}_s{seed}" / "metrics.jsonl") for seed in range(3)]
        for place, rows in enumerate(zip(*seeds, strict=True)):
            found = mean_interval([row["loss"] for row in rows])
            assert (line["y"][place], line["low"][place], line["high"][place]) == found[:3]


def test_a_band_of_a_share_is_that_of_reports(folder: Path) -> None:
    line = followed(folder).curves(View("accuracy", group="model.d_model"))[0]
    seeds = [rows_of(folder / f"d16_s{seed}" / "evals.jsonl") for seed in range(3)]
    for place, rows in enumerate(zip(*seeds, strict=True)):
        by_seed = {(str(seed),): (row,) for seed, row in enumerate(rows)}
        found = over_seeds(Setting({}, {}, by_seed), "accuracy")
        assert found is not None
        assert (line["y"][place], line["low"][place], line["high"][place]) == found[:3]


def test_a_group_is_one_value_of_a_key(folder: Path) -> None:
    runs = followed(folder).runs
    assert [setting.values for setting in groups(runs, "model.d_model")] == [
        {"model.d_model": 16},
        {"model.d_model": 64},
    ]
    (everything,) = groups(runs, "study")
    assert (everything.n_seeds, len(everything.runs)) == (3, 6)


def test_each_seed_is_a_group_of_its_own_where_seeds_are_asked_for(folder: Path) -> None:
    lines = followed(folder).curves(View("loss", group="training.seed"))
    assert [(line["name"], len(line["runs"]), line["n"]) for line in lines] == [
        ("seed=0", 2, 1),
        ("seed=1", 2, 1),
        ("seed=2", 2, 1),
    ]
    rows = [rows_of(folder / f"d{d_model}_s1" / "metrics.jsonl") for d_model in (16, 64)]
    expected = [fmean(row["loss"] for row in pair) for pair in zip(*rows, strict=True)]
    assert lines[1]["y"] == expected and "low" not in lines[1]


def test_a_mean_ends_where_the_first_of_its_runs_ends(tmp_path: Path) -> None:
    write_run(tmp_path / "short", seed=0, n_rows=5)
    write_run(tmp_path / "long", seed=1, n_rows=9)
    (line,) = followed(tmp_path).curves(View("loss", group="model.d_model"))
    assert line["x"] == [10, 20, 30, 40, 50]


def test_a_mean_over_rows_is_that_of_the_rows_before(folder: Path) -> None:
    line = followed(folder).curves(View("loss", window=5))[0]
    losses = [row["loss"] for row in rows_of(folder / line["name"] / "metrics.jsonl")]
    expected = [fmean(losses[max(0, end - 5) : end]) for end in range(1, len(losses) + 1)]
    assert line["y"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("n_points", [4, 30, 200])
def test_what_is_drawn_of_many_rows_are_rows_and_all_that_they_reach(is_log: bool, n_points: int) -> None:
    x, y = np.arange(1, 5001), np.random.default_rng(0).normal(size=5000)
    kept = thin(x, y, n_points, is_log)
    assert len(kept) <= n_points + 2
    assert (kept[0], kept[-1]) == (0, 4999)
    assert {int(y.argmin()), int(y.argmax())} <= set(kept.tolist())
    edges = np.geomspace(1, 5000, n_points // 2) if is_log else np.linspace(1, 5000, n_points // 2)
    for low, high in pairwise(edges):
        part = (x >= low) & (x < high)
        if part.any():
            drawn = y[kept][part[kept]]
            assert (drawn.min(), drawn.max()) == (y[part].min(), y[part].max())


def test_of_a_zoom_the_rows_within_are_shown_and_one_on_each_side() -> None:
    x = np.array([0, 10, 20, 30, 40])
    assert x[within(x, 11, 29)].tolist() == [10, 20, 30]
    assert x[within(x, None, 10)].tolist() == [0, 10, 20]
    assert x[within(x, 99, None)].tolist() == [40]


def test_the_first_rows_have_fewer_before_them() -> None:
    assert trailing_mean(np.array([1.0, 3.0, 5.0, 7.0]), 3).tolist() == [1.0, 2.0, 3.0, 5.0]


@pytest.mark.parametrize("n_rows", [1, 4, 5, 6, 40])
@pytest.mark.parametrize("window", [2, 5, 7])
def test_a_mean_over_rows_is_of_these_alone(n_rows: int, window: int) -> None:
    values = np.random.default_rng(0).normal(size=n_rows)
    values[n_rows // 2] = 1e18
    values[n_rows // 3] = np.nan
    expected = [np.mean(values[max(0, end - window) : end]) for end in range(1, n_rows + 1)]
    np.testing.assert_allclose(trailing_mean(values, window), expected, rtol=1e-12)


def test_new_rows_are_shown_and_rows_that_were_cut_are_not(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", n_rows=3) / "metrics.jsonl"
    watched = followed(tmp_path)
    append(path, {"step": 40, "loss": 0.25, "elapsed_seconds": 2})
    watched.refresh()
    assert watched.curves(View("loss"))[0]["y"][-1] == 0.25
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    watched._read_at = 0
    watched.refresh()
    assert watched.curves(View("loss"))[0]["x"] == [10, 20]


def test_a_run_that_begins_later_is_found(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    watched = followed(tmp_path)
    write_run(tmp_path / "deep" / "b")
    watched._look_at = 0
    watched.refresh()
    assert [run["name"] for run in watched.state()["runs"]] == ["a", "deep/b"]
    assert len(watched.curves(View("loss"))) == 2


def test_studies_do_not_differ_in_that_each_has_keys_of_its_own(folder: Path, tmp_path: Path) -> None:
    for name, depth in (("one", 1), ("two", 1), ("deep", 2)):
        config = {"study": "other", "name": name, "only_here": 1, "depth": depth, "model": {"d_model": 16}}
        (write_run(tmp_path / name) / "config.yaml").write_text(json.dumps(config))
    keys = followed(folder, tmp_path).state()["keys"]
    assert set(keys) == {"study", "depth", "model.d_model", "training.seed"}


def test_a_sample_is_shown_before_all_is_read(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", n_rows=2000) / "metrics.jsonl"
    line = Watched([tmp_path]).curves(View("loss"))[0]
    rows = {row["step"]: row["loss"] for row in rows_of(path)}
    assert 10 < len(line["x"]) < 100
    assert [rows[step] for step in line["x"]] == line["y"]
    assert line["x"][-1] == 20_000


def test_the_table_has_the_last_rows_the_states_and_what_differs(folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "result.json").write_text(json.dumps({"status": "finished", "step": 400}))
    state = followed(folder, run).state()
    assert state["keys"] == ["model.d_model", "training.seed"]
    last = {row["name"]: row for row in state["runs"]}["run"]
    assert (last["state"], last["step"], last["n_steps"], last["values"]) == (
        "finished",
        400,
        400,
        ["16", "0"],
    )
    accuracy = rows_of(run / "evals.jsonl")[-1]["accuracy"]
    assert last["measures"]["accuracy"].startswith(f"{accuracy:.3f} [")
    assert state["shown"] == ["loss", "accuracy"]
    assert {row["state"] for row in state["runs"]} == {"finished", "stopped"}


@pytest.mark.parametrize("name", ["accuracy", "accuracy_low", "accuracy_high"])
def test_what_is_no_number_in_a_row_hides_neither_its_run_nor_others(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "good")
    row = {"step": 500, "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, name: None}
    append(write_run(tmp_path / "with_null") / "evals.jsonl", row)
    runs = {run["name"]: run for run in followed(tmp_path).state()["runs"]}
    assert runs["with_null"]["measures"]["accuracy"] == ("-" if name == "accuracy" else "0.5")
    assert "[" in runs["good"]["measures"]["accuracy"]


def test_a_damaged_run_is_named_and_does_not_hide_the_others(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad")
    (bad / "config.yaml").write_text("a: [")
    (bad / "evals.jsonl").write_text("no row\n")
    state = followed(tmp_path).state()
    reasons = {row["name"]: row["reason"] for row in state["runs"]}
    assert reasons["good"] == ""
    assert "evals.jsonl:1 is not a JSON object" in reasons["bad"] and "not valid YAML" in reasons["bad"]


def test_nothing_to_follow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is there; name folders"):
        Watched([tmp_path])


def test_more_runs_than_can_be_followed_are_refused_and_later_ones_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_run(tmp_path / name)
    monkeypatch.setattr("nanollama.watch.watched.MAX_RUNS", 2)
    with pytest.raises(UserError, match="more than 2 runs are there"):
        Watched([tmp_path])
    monkeypatch.setattr("nanollama.watch.watched.MAX_RUNS", 3)
    watched = followed(tmp_path, tmp_path)
    assert watched.state()["n_left_out"] == 0
    write_run(tmp_path / "d")
    watched._look_at = 0
    watched.refresh()
    state = watched.state()
    assert (len(state["runs"]), state["n_left_out"]) == (3, 1)
