"""Claims about a grid: which runs they mean, when they hold, and every refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nanollama.errors import ConfigError, UserError
from nanollama.launcher.grid import outcome
from nanollama.launcher.grid.expect import judge, verdict_table
from nanollama.launcher.grid.outcome import show_outcome
from nanollama.launcher.plan import Plan, read_grid

GRID = """\
study: memory
name: judged
run_dir: {folder}
data: {{n_people: 32, sources: [{{kind: qa}}]}}
model: {{implementation: transformer, d_model: 32, n_layers: 2, n_heads: 2}}
training: {{n_steps: 10}}
grid: {{product: {{model.d_model: [16, 32]}}, seeds: 2}}
expect: [{expect}]
"""
WIDE = "claim: wide models learn, runs: {model.d_model: 32}, measure: recall, at_least: 0.9"
BETTER = "claim: width helps, runs: {model.d_model: 32}, minus: {model.d_model: 16}, measure: recall"


def plan_of(tmp_path: Path, *expect: str) -> Plan:
    path = tmp_path / "grid.yaml"
    listed = ", ".join(f"{{{entry}}}" for entry in expect)
    path.write_text(GRID.format(folder=tmp_path / "runs", expect=listed), encoding="utf-8")
    return read_grid([str(path)])


def rows_of(plan: Plan, recalls: list[float]) -> list[dict[str, Any]]:
    """Rows of finished runs in the order of the grid: seed 0 narrow, seed 0 wide, seed 1 narrow, ..."""
    return [
        {"run": run.name, "status": "finished", "recall": recall}
        for run, recall in zip(plan.runs, recalls, strict=False)
    ]


@pytest.mark.parametrize(
    ("recalls", "values", "word"),
    [
        ([0.1, 0.95, 0.2, 0.9], (0.95, 0.9), "holds"),
        ([0.1, 0.95, 0.2, 0.899], (0.95, 0.899), "MISSED"),  # one seed is enough
        ([0.1, 0.95], (0.95,), "open: 1 of 2"),
        ([0.1, 0.5], (0.5,), "MISSED"),  # whatever the others will say
    ],
)
def test_a_claim_holds_in_every_run_it_means(
    tmp_path: Path, recalls: list[float], values: tuple[float, ...], word: str
) -> None:
    plan = plan_of(tmp_path, WIDE)
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, recalls), "training.seed")
    assert (verdict.values, verdict.word) == (values, word)


@pytest.mark.parametrize(("bound", "word"), [("at_least: 0.7", "MISSED"), ("at_most: 0.8", "holds")])
def test_differences_are_taken_seed_by_seed(tmp_path: Path, bound: str, word: str) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, {bound}")
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, [0.25, 0.875, 0.125, 0.875]), "training.seed")
    assert (verdict.values, verdict.word) == ((0.625, 0.75), word)


def test_differences_too_small_for_three_decimals_show_their_size(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, at_least: 0")
    verdicts = judge(plan.expect, plan.runs, rows_of(plan, [0.5, 0.50002, 0.5, 0.5]), "training.seed")
    assert "2e-05, 0.000" in verdict_table(verdicts).rows[0]


def test_runs_are_chosen_by_any_of_several_values_and_through_lists(tmp_path: Path) -> None:
    chosen = "{model.d_model: [16, 32], data.sources.0.kind: qa}"
    plan = plan_of(tmp_path, f"claim: all, runs: {chosen}, measure: recall, at_least: 0")
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, [0.1, 0.2, 0.3, 0.4]), "training.seed")
    assert verdict.values == (0.1, 0.2, 0.3, 0.4)


def test_the_verdict_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "REPORT", "none")  # the study's own page needs runs that were
    plan = plan_of(tmp_path, WIDE, f"{BETTER}, at_least: 0.7")
    plan.folder.mkdir()
    assert show_outcome(plan, rows_of(plan, [0.25, 0.95, 0.125, 0.95])) == 0
    assert show_outcome(plan, rows_of(plan, [0.5, 0.95, 0.125, 0.95])) == 1
    assert "0.450, 0.825" in capsys.readouterr().out
    assert "| width helps" in (plan.folder / "verdict.md").read_text()
    verdicts = [entry["verdict"] for entry in json.loads((plan.folder / "verdict.json").read_text())]
    assert verdicts == ["holds", "MISSED"]


@pytest.mark.parametrize(("claim", "values"), [(WIDE, (0.95,)), (f"{BETTER}, at_least: 0.7", (0.85,))])
def test_a_finished_run_without_a_number_is_judged_as_missing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    claim: str,
    values: tuple[float, ...],
) -> None:
    monkeypatch.setattr(outcome, "REPORT", "none")
    plan = plan_of(tmp_path, claim)
    plan.folder.mkdir()
    rows: list[Any] = rows_of(plan, [0.1, 0.95, 0.2, 0.9])
    rows[3]["recall"] = None
    (verdict,) = judge(plan.expect, plan.runs, rows, "training.seed")
    assert verdict.values == pytest.approx(values)
    assert (verdict.word, verdict.missing) == ("open: 1 of 2", (plan.runs[3].name,))
    assert show_outcome(plan, rows) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"such as {plan.runs[3].name}: finished, but recall is no number there (null).")
    assert json.loads((plan.folder / "verdict.json").read_text())[0]["missing"] == [plan.runs[3].name]


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("claim: x, measure: recall", "the claim 'x' needs one of at_least and at_most"),
        ("claim: x, measure: recall, at_least: 0, at_most: 1", "needs one of at_least and at_most"),
        ("claim: x, measure: recall, atleast: 0", "did you mean 'at_least'?"),
        (
            "claim: x, runs: {model.d_model: 64}, measure: recall, at_least: 0",
            "the claim 'x' is about no run of the grid: none has runs = {\"model.d_model\": 64}.",
        ),
        ("claim: x, minus: {n_people: 1}, measure: recall, at_least: 0", "none has minus = "),
        (
            "claim: x, minus: {model.n_layers: 2}, measure: recall, at_least: 0",
            'subtracts runs of one setting, but {"model.n_layers": 2} names 2: d_model=16; d_model=32.',
        ),
    ],
)
def test_claims_about_nothing_are_refused_before_anything_runs(
    tmp_path: Path, expect: str, message: str
) -> None:
    with pytest.raises((ConfigError, UserError)) as raised:
        plan_of(tmp_path, expect)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("zipped", "message"),
    [
        (
            "model.d_model: [16, 16, 32, 32], model.n_layers: [1, 2, 1, 2], training.seed: [0, 1, 0, 1]",
            'subtracts runs of one setting, but {"model.d_model": 16} names 2: n_layers=1; n_layers=2.',
        ),
        (
            "model.d_model: [16, 32, 32], training.seed: [0, 0, 1]",
            'subtracts one run a seed, but {"model.d_model": 16} names none with training.seed = 1.',
        ),
    ],
)
def test_what_is_subtracted_is_one_setting_with_every_seed(tmp_path: Path, zipped: str, message: str) -> None:
    path = tmp_path / "grid.yaml"
    text = GRID.format(folder=tmp_path / "runs", expect=f"{{{BETTER}, at_least: 0}}")
    path.write_text(re.sub("grid: .*", f"grid: {{zip: [{{{zipped}}}]}}", text), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        read_grid([str(path)])


def test_a_measure_that_is_not_there(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "claim: x, measure: recal, at_least: 0")
    with pytest.raises(UserError, match=r"'recal', which the run .* did not measure; did you mean 'recall'"):
        judge(plan.expect, plan.runs, rows_of(plan, [0.5]), "training.seed")
