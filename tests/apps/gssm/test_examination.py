"""What is told of a trained model and of grids: recovery, switches, power laws, pictures, pages, tables."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from apps.gssm import difficulty, entropy, eval, gap, show, train
from apps.gssm.examination import recovery, steps_since_switch, switch_rows
from apps.gssm.examiner import Losses, build_test_set
from apps.gssm.grid_sections import entropy_table, means_by_size, scaling_blocks
from apps.gssm.picture import node_entropies, plot_source
from apps.gssm.scaling import fit_power_law
from apps.gssm.settings import GssmConfig, ShowConfig
from apps.gssm.source import build_source
from nanollama.config import load_config
from nanollama.launcher.grid.outcome import judge_grid, show_outcome
from nanollama.launcher.grid.results import collect
from nanollama.launcher.plan import read_grid
from nanollama.measures import say_all, show_measure
from nanollama.report import command as report_command
from nanollama.report.grouping import Setting
from nanollama.report.page import Picture, Words
from nanollama.report.runs import read_run
from nanollama.report.sections import examination_blocks
from nanollama.report.tables import Table, show_mean
from nanollama.statistics import mean_interval
from tests.apps.gssm.test_training import CONFIGS, SMALL, arguments, graph_data

SLOW = (
    "{nodes: [{name: S, state_dim: 3, alpha: 0.3, mode: slow}, {name: Z, state_dim: 2, alpha: 0.5}, "
    "{name: X, state_dim: 8, alpha: 0.1, parents: [S, Z], observed: true}]}"
)


def test_what_is_linear_is_recovered_and_what_is_not_there_is_not() -> None:
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet(np.ones(3), size=(200, 10))
    noise = rng.normal(size=(200, 10, 5))
    assert recovery(np.concatenate([posterior @ rng.normal(size=(3, 6)), noise], axis=-1), posterior) > 0.99
    assert abs(recovery(noise, posterior)) < 0.05
    assert np.isnan(recovery(noise, np.ones((200, 10, 1))))
    rounded = 1 - 1e-16 * rng.integers(0, 3, size=(200, 10, 1))
    assert rounded.std() > 0 and np.isnan(recovery(noise, rounded)), "roundings are no changes"


def test_steps_since_a_switch() -> None:
    states = np.array([[0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0, 0]])
    assert steps_since_switch(states).tolist() == [[-1, -1, 0, 1, 2, 0, 1], [-1] * 7]


def test_losses_after_a_switch_are_those_of_its_symbols() -> None:
    """A divergence that is 1 on the first symbol after a switch and 0 elsewhere is found there alone."""
    graph = {
        "nodes": (
            {"name": "S", "state_dim": 3, "alpha": 0.3, "mode": "slow"},
            {"name": "X", "state_dim": 8, "alpha": 0.1, "parents": ("S",), "observed": True},
        )
    }
    source = build_source(graph_data(graph=graph, seq_len=40))
    test = build_test_set(source, 64)
    states = test.sample.latents["S"]
    switched = (states[:, 1:] != states[:, :-1]).astype(float)
    rows = list(switch_rows(Losses(switched, switched), source, test))
    assert [row["kl_nats"] for row in rows[:4]] == [1.0, 0.0, 0.0, 0.0]
    assert rows[0]["n_positions"] == switched.sum()


def test_power_laws_are_found() -> None:
    law = fit_power_law(
        {seed: [(x, (2 + seed) * x**-0.5) for x in (10.0, 100.0, 1000.0)] for seed in range(3)}
    )
    assert law is not None and law.exponent.mean == pytest.approx(0.5)
    assert law(100.0) == pytest.approx((2 * 3 * 4) ** (1 / 3) / 10)
    assert fit_power_law({0: [(10.0, 1.0)], 1: [(10.0, -1.0), (20.0, 1.0)]}) is None


def test_entropies_of_nodes_are_those_of_their_rows() -> None:
    """Of a node that sees nothing but itself: its rows' entropies, weighted by how often it is there."""
    source = build_source(graph_data(seq_len=400))
    z = source.graph.node("Z1")
    table = np.exp(source.kernels.log_table(z)[0])
    rows = -(table * np.log(np.maximum(table, 1e-300))).sum(axis=1)
    values, vectors = np.linalg.eig(table.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    expected = float(rows @ (stationary / stationary.sum()))
    assert node_entropies(source, 200)["Z1"] == pytest.approx(expected, rel=0.02)


def test_a_source_without_latents_or_chance_is_told_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    graph = "{nodes: [{name: X, state_dim: 1, alpha: 1, observed: true}]}"
    keys = [f"data.graph={graph}", "training.n_steps=2", "training.checkpoint={every: 1, keep: 2}"]
    assert train.main(arguments(tmp_path, *keys)) == 0
    assert eval.main([str(CONFIGS / "eval.yaml"), f"run={tmp_path}", "n_sequences=8"]) == 0
    said = capsys.readouterr().out
    assert "nan" not in said and "_low" not in said and "not ended" not in said
    assert "\n  loss (nats)  " in said and "\n  unigram (nats)  " in said
    assert said.splitlines()[-1].startswith(f"wrote {tmp_path}/evaluations/")
    (examined,) = read_run(tmp_path).examinations
    told = say_all(examined.measures)
    assert len(told) > 2 and all(f"\n  {line}\n" in said for line in told), "what is printed is kept"
    assert examined.measures["loss_nats_low"] is None, "all sequences are alike"
    blocks = examination_blocks([read_run(tmp_path)])
    assert isinstance(blocks[0], Table) and blocks[0].caption == f"Examined: {examined.name}."
    ending = (tmp_path / "result.json").read_text()
    (tmp_path / "result.json").write_text(ending.replace('"finished"', '"preempted"'))
    for step, told in ((1, "; its training has not ended (step 1 of 2)"), (2, "")):
        path = tmp_path / f"checkpoints/step_{step:08d}"
        assert eval.main([str(CONFIGS / "eval.yaml"), f"run={path}", "n_sequences=8"]) == 0
        assert f"parameters{told}\n" in capsys.readouterr().out
    (tmp_path / "result.json").write_text(ending)
    assert gap.main([str(tmp_path)]) == 0
    page = (tmp_path / "gap.html").read_text()
    assert "has no latents that could be in more than one state" in page and "nan]" not in page


@pytest.mark.slow
def test_examine_a_run_and_draw_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    assert train.main(arguments(tmp_path, f"data.graph={SLOW}", "data.seq_len=20")) == 0
    checkpoint = tmp_path / "checkpoints" / "step_00000012"
    assert eval.main([str(CONFIGS / "eval.yaml"), f"run={checkpoint}", "n_sequences=64"]) == 0
    assert not [path for path in checkpoint.iterdir() if path.is_dir()], "it is removed some day"
    told = capsys.readouterr().out
    assert "gap (nats)" in told and "last_symbol_alone" in told
    measures = read_run(tmp_path).examinations[0].measures
    assert f"  gap (nats)         {show_measure(measures, 'gap_nats')}\n" in told
    (examined,) = (tmp_path / "evaluations").glob(f"{checkpoint.name}_*")
    tables = {}
    for name in ("positions", "latents", "switches"):
        with open(examined / f"{name}.csv", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert [int(row["position"]) for row in tables["positions"]] == [*range(20)]
    assert {row["latent"] for row in tables["latents"]} == {"S", "Z"}
    assert {row["place"] for row in tables["latents"]} == {"last symbol", "blocks.0", "blocks.1"}
    assert {row["node"] for row in tables["switches"]} == {"S"}
    assert gap.main([str(tmp_path)]) == 0
    assert "<image" not in (tmp_path / "gap.html").read_text(), "the page's policy would not show it"
    assert {"kl_by_position.svg", "switch_S.svg"} <= {path.name for path in (tmp_path / "gap").iterdir()}
    assert gap.main([]) == 2 and gap.main([str(tmp_path / "none")]) == 2


def test_words_of_pictures_stay_within_what_they_name() -> None:
    rows = [
        {"position": place, "loss_nats": 1.0, "floor_nats": 0.5}
        | {"kl_nats": 0.5, "kl_nats_low": 0.4, "kl_nats_high": 0.6}
        for place in range(9)
    ]
    examination: Any = SimpleNamespace(tables={"positions": rows})
    for block in gap.position_blocks(examination):
        assert isinstance(block, Picture)
        block.figure.draw_without_rendering()
        (axes,) = block.figure.axes
        assert axes.yaxis.label.get_window_extent().height < axes.get_window_extent().height
    name = "a_name_of_24_characters_"
    graph = {"nodes": ({"name": name, "state_dim": 8, "alpha": 1.0, "observed": True},)}
    figure = plot_source("source", build_source(graph_data(graph=graph)), n_sequences=4)
    figure.draw_without_rendering()
    (text,), (circle,) = ([*each] for each in (figure.axes[0].texts, figure.axes[0].patches))
    assert text.get_window_extent().width < circle.get_window_extent().width


def test_the_picture_of_the_readme_tells_the_floor_of_its_source() -> None:
    config = load_config(ShowConfig, [str(CONFIGS / "show.yaml")])
    (named,) = (source for source in config.sources if source.name == "debug")
    picture = (CONFIGS.parent / "debug.svg").read_text(encoding="utf-8")
    said = re.search(r"exact floor ([0-9.]+) ± ([0-9.]+) nats a symbol · unigrams ([0-9.]+)", picture)
    assert said is not None
    floor, error, unigram = map(float, said.groups())
    test = build_test_set(build_source(named), config.n_sequences)
    assert test.floor_nats is not None
    assert abs(test.floor_nats.mean() - floor) < error, "draw it anew: python -m apps.gssm.show"
    assert test.unigram_nats == pytest.approx(unigram, abs=0.01)


@pytest.mark.slow
def test_a_grid_draws_sources_beside_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    keys = ["grid.seeds=2", "model.d_model=16", "data.match.n_sequences=32", "data.match.tolerance_nats=0.1"]
    plan = read_grid([str(CONFIGS / "structure.yaml"), f"run_dir={tmp_path}", *SMALL, *keys])
    for run in plan.runs:
        assert isinstance(run.config, GssmConfig)
        train.run(run.config)
    rows: Any = collect(plan)
    show_outcome(judge_grid(plan, rows))
    page = (tmp_path / "report.html").read_text()
    assert "4 of 4 runs" in page and "unigrams less floor" in page and "exponent" in page
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"kl_by_position.svg", "excess_by_data.svg", "excess_by_compute.svg"} <= drawn
    assert any(name.startswith("source_") for name in drawn)


def test_commands_tell_entropies_and_alphas_and_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = "sources=[{name: own, graph: debug, seq_len: 20}]"
    out = [f"out={tmp_path / 'out.csv'}", "n_sequences=32"]
    assert entropy.main([str(CONFIGS / "entropy.yaml"), sources, *out]) == 0
    assert "rate_nats" in (tmp_path / "out.csv").read_text() and "zlib_nats" in capsys.readouterr().out
    asked = ["source={graph: debug, seq_len: 20}", "alphas=[0.1]", "rates_nats=[1.0]", "kernel_seeds=[4]"]
    assert difficulty.main([str(CONFIGS / "difficulty.yaml"), *asked, *out]) == 0
    with open(tmp_path / "out.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["alpha"]) == 0.1 and abs(float(second["rate_nats"]) - 1.0) <= 0.01
    some = [*asked, *out, "rates_nats=[50, 1.0]", f"out={tmp_path / 'some.csv'}"]
    assert difficulty.main([str(CONFIGS / "difficulty.yaml"), *some]) == 2
    assert "gives an entropy rate of 50 nats" in capsys.readouterr().err
    with open(tmp_path / "some.csv", newline="") as file:
        assert [row["target_nats"] for row in csv.DictReader(file)] == ["", "1.0"]
    assert difficulty.main([str(CONFIGS / "difficulty.yaml"), "nodes=[Q]"]) == 2
    assert "no node is called 'Q'" in capsys.readouterr().err
    drawn = ["n_sequences=16", f"folder={tmp_path}", "formats=[svg]"]
    assert show.main([str(CONFIGS / "show.yaml"), sources, *drawn]) == 0
    assert "<image" not in (tmp_path / "own.svg").read_text()
    assert show.main([str(CONFIGS / "show.yaml"), sources, *drawn, f"folder={tmp_path / 'out.csv'}"]) == 2
    assert f"The folder {tmp_path / 'out.csv'} cannot be made" in capsys.readouterr().err


def test_entropies_are_those_of_the_seeds_of_a_source() -> None:
    first, same, other = (
        entropy.describe(build_source(graph_data(sequence_seed=seed)), 16)["rate_nats"] for seed in (0, 0, 1)
    )
    assert first == same != other


def test_settings_without_a_floor_are_left_out_of_the_table_of_entropies() -> None:
    known = {"floor_nats": 1.0, "unigram_nats": 1.5}
    settings: list[Setting[Any]] = [
        Setting({"arm": arm}, {}, {("0",): (SimpleNamespace(row=row),)})
        for arm, row in (("known", known), ("afresh", {"loss_nats": 1.0}))
    ]
    grid: Any = SimpleNamespace(settings=settings)
    assert [row[0] for row in entropy_table(grid).rows] == ["known"]


def test_a_law_over_all_settings_is_of_all_of_them(tmp_path: Path) -> None:
    """15 settings, more than a figure has lines; the last width breaks the law of the others."""
    widths = "model.d_model: [16, 32, 48, 64, 80]"
    rates = "training.optimizer.learning_rate: [1e-3, 2e-3, 3e-3]"
    keys = [f"grid.product={{{widths}, {rates}}}", "grid.seeds=2", "expect=[]", f"run_dir={tmp_path}"]
    plan = read_grid([str(CONFIGS / "scaling.yaml"), *keys])
    by_seed: dict[Any, list[tuple[float, float]]] = {}
    results = []
    for run in plan.runs:
        width = run.values["model.d_model"]
        point = (100.0 * width, 0.5 if width == 80 else 1 / width)
        by_seed.setdefault(run.values["data.kernel_seed"], []).append(point)
        measures = {"n_params": point[0], "kl_nats": point[1]}
        results.append({"run": run.name, "status": "finished", "step": 100, **measures})
    said, picture, table = scaling_blocks(judge_grid(plan, results))
    assert isinstance(table, Table) and isinstance(said, Words) and isinstance(picture, Picture)
    law = fit_power_law(by_seed)
    assert law is not None and abs(law.exponent.mean) < 0.9
    (row,) = [row for row in table.rows if row[0] == "all settings"]
    assert row[2] == show_mean(law.exponent)
    assert "first 12 of 15 settings" in said.text and "d_model=80" in said.text


def test_a_band_is_over_seeds_and_not_over_settings() -> None:
    """Two settings of one size with three seeds are three values."""
    by_seed = {seed: [(10.0, 1.0 + seed), (10.0, 2.0 + seed)] for seed in range(3)}
    ((size, found),) = means_by_size(by_seed)
    assert size == 10.0
    assert found == mean_interval([1.5, 2.5, 3.5])
