"""Claims about runs that have learned alike, and about differences that grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_verdict import EVERY_5, GRID, plan_of, rows_of

from nanollama.errors import ConfigError, UserError
from nanollama.launcher.grid.outcome import judge_grid
from nanollama.launcher.grid.sections import pairs_table
from nanollama.launcher.grid.verdict_table import missing_lines
from nanollama.launcher.plan import Plan, read_grid
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS

WHEN = "when: {measure: recall_trained, at_least: 0.95}"
COST = (
    "claim: width costs, runs: {model.d_model: 32}, minus: {model.d_model: 16}, measure: total_variation_base"
)


def with_evals(plan: Plan, *evals: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """Rows whose runs have evaluations (recall, cost) at steps 5, 10, ...; the last is the final one."""
    rows = rows_of(plan, [of_run[-1][0] for of_run in evals])
    for run, row, of_run in zip(plan.runs, rows, evals, strict=True):
        run.folder.mkdir(parents=True)
        for number, (recall, cost) in enumerate(of_run, start=1):
            RowFile(run.folder / EVALS).append(
                {"step": 5 * number, "recall_trained": recall, "total_variation_base": cost}
            )
        row["total_variation_base"] = of_run[-1][1]
    return rows


def test_the_measure_is_that_of_the_first_evaluation_with_enough_recall(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{COST}, {WHEN}, statistic: interval, at_most: 0", f"{COST}, at_most: 0")
    quick, slow = [(0.96, 0.5), (1.0, 0.9)], [(0.2, 0.1), (0.95, 0.2)]
    rows = with_evals(plan, quick, slow, quick, [(0.2, 0.1), (0.95, 0.25)])
    alike, at_the_end = judge_grid(plan, rows).verdicts
    assert alike.values == pytest.approx((0.2 - 0.5, 0.25 - 0.5))
    assert at_the_end.values == pytest.approx((0.2 - 0.9, 0.25 - 0.9))
    assert alike.expectation.subject == "total_variation_base at recall_trained >= 0.95 (difference)"
    assert alike.together is not None and alike.together.mean == pytest.approx(-0.275)


@pytest.mark.parametrize("side", ["given", "given_of_runs"])
def test_what_is_to_be_learned_is_asked_where_the_measure_is_taken(tmp_path: Path, side: str) -> None:
    condition = f"{side}: {{measure: total_variation_base, at_least: 0.3}}"
    plan = plan_of(tmp_path, f"{COST}, {WHEN}, {condition}, at_most: 0")
    later = [(0.96, 0.2), (1.0, 0.9)]  # what is asked for is there at the end, and not when recall was enough
    narrow = [(0.96, 0.5), (1.0, 0.9)]
    (verdict,) = judge_grid(plan, with_evals(plan, narrow, later, narrow, later)).verdicts
    assert verdict.word.startswith("not told: total_variation_base >= 0.3")


def test_the_mean_of_one_setting_is_of_these_evaluations_too(tmp_path: Path) -> None:
    wide = "claim: x, runs: {model.d_model: 32}, measure: total_variation_base"
    plan = plan_of(tmp_path, f"{wide}, {WHEN}, statistic: mean, at_most: 0.5")
    rows = with_evals(plan, *[[(0.96, 0.25), (1.0, 0.75)]] * 4)
    (verdict,) = judge_grid(plan, rows).verdicts
    assert verdict.together is not None and verdict.together.mean == 0.25 and verdict.word == "holds"


def test_a_run_that_never_learned_leaves_the_claim_untold(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{COST}, {WHEN}, at_most: 0")
    learned = [(0.96, 0.5)]
    verdicts = judge_grid(plan, with_evals(plan, learned, [(0.9, 0.1)], learned, learned)).verdicts
    assert verdicts[0].word == "not told: recall_trained >= 0.95 never in 1 of 2" and verdicts[0].failed
    (line,) = missing_lines(verdicts)
    assert "recall_trained >= 0.95 is not so at any evaluation" in line and plan.runs[1].name in line


def grown(tmp_path: Path, beyond: str = "{data.n_people: 32}", more: str = "") -> Plan:
    """Two seeds of 32 and of 64 people, narrow and wide; a claim that the gap between these grows."""
    claim = (
        "claim: it grows, runs: {model.d_model: 32, data.n_people: 64}, minus: {model.d_model: 16, "
        f"data.n_people: 64}}, beyond: {beyond}, measure: recall_trained, statistic: mean, "
        f"at_least: 0.1{more}"
    )
    text = GRID.format(folder=tmp_path / "runs", training=EVERY_5, seeds=2, expect=f"{{{claim}}}")
    (tmp_path / "grid.yaml").write_text(
        text.replace("{model.d_model:", "{data.n_people: [32, 64], model.d_model:", 1)
    )
    return read_grid([str(tmp_path / "grid.yaml")])


def test_a_difference_that_grows(tmp_path: Path) -> None:
    plan = grown(tmp_path)
    recalls = [0.5, 0.6, 0.1, 0.9, 0.5, 0.5, 0.3, 0.4]  # by seed: 32 narrow, 32 wide, 64 narrow, 64 wide
    grid = judge_grid(plan, rows_of(plan, recalls))
    (verdict,) = grid.verdicts
    assert verdict.values == pytest.approx((0.8 - 0.1, 0.1 - 0.0)) and verdict.word == "holds"
    assert verdict.expectation.subject == "recall_trained (difference, beyond that at data.n_people 32)"
    assert [row[1:3] for row in pairs_table(verdict).rows] == [("0.800", "0.100"), ("0.100", "0.000")]
    (missed,) = judge_grid(plan, rows_of(plan, [0.5, 0.6, 0.1, 0.2, 0.5, 0.5, 0.3, 0.4])).verdicts
    assert missed.word == "MISSED"


def test_what_is_learned_counts_on_all_four_sides(tmp_path: Path) -> None:
    plan = grown(tmp_path, more=", given: {measure: recall_trained, at_least: 0.2}")
    (verdict,) = judge_grid(plan, rows_of(plan, [0.1, 0.6, 0.3, 0.9, 0.5, 0.5, 0.3, 0.4])).verdicts
    assert verdict.word == "not told: recall_trained >= 0.2 in 1 of 2 seeds"


ASKED = "given_of_runs: {measure: recall_trained, at_least: 0.8}"


@pytest.mark.parametrize(
    ("more", "wide", "word"),
    [
        (ASKED, 0.9, "holds"),
        (ASKED, 0.7, "not told: recall_trained >= 0.8 of those under runs in 1 of 2 runs"),
        (
            f"{ASKED}, given: {{measure: recall_trained, at_least: 0.6}}",
            0.9,
            "not told: recall_trained >= 0.6 and recall_trained >= 0.8 of those under runs in 1 of 2 runs",
        ),
    ],
)
def test_what_one_side_has_to_learn_is_not_asked_of_the_other(
    tmp_path: Path, more: str, wide: float, word: str
) -> None:
    claim = COST.replace("total_variation_base", "recall_trained")
    plan = plan_of(tmp_path, f"{claim}, at_least: 0.05, {more}")
    (verdict,) = judge_grid(plan, rows_of(plan, [0.5, wide, 0.7, 0.9])).verdicts
    assert verdict.word == word
    assert verdict.shown.endswith("runs)")


@pytest.mark.parametrize(("few", "word"), [(0.9, "holds"), (0.7, "not told")])
def test_what_one_side_has_to_learn_counts_in_both_differences(tmp_path: Path, few: float, word: str) -> None:
    plan = grown(tmp_path, more=f", {ASKED}")
    (verdict,) = judge_grid(plan, rows_of(plan, [0.7, few, 0.1, 0.9, 0.5, 0.9, 0.3, 0.9])).verdicts
    assert verdict.word.startswith(word)


def test_a_run_that_diverged_tells_nothing_of_what_one_side_learned(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, f"{COST.replace('total_variation_base', 'recall_trained')}, at_least: 0, {ASKED}"
    )
    rows = rows_of(plan, [0.5, 0.9, 0.7, 0.9])
    rows[0] = {"run": plan.runs[0].name, "status": "diverged"}
    assert judge_grid(plan, rows).verdicts[0].word == "not told: 1 of 2 diverged"


def test_claims_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"by data.n_people = 33, but in the grid it is 32 or 64"):
        grown(tmp_path, "{data.n_people: 33}")
    with pytest.raises(ConfigError, match="beyond goes with minus"):
        plan_of(tmp_path, "claim: x, measure: recall_trained, at_least: 0, beyond: {model.d_model: 16}")
    with pytest.raises(ConfigError, match="given_of_runs needs minus or over"):
        plan_of(tmp_path, f"claim: x, measure: recall_trained, at_least: 0, {ASKED}")
    with pytest.raises(UserError, match="is about 'recall_traned'"):
        plan_of(tmp_path, f"{COST}, at_least: 0, {ASKED.replace('trained', 'traned')}")
    with pytest.raises(ConfigError, match="both when and reaches"):
        plan_of(tmp_path, f"claim: x, measure: recall_trained, at_least: 0, reaches: 0.5, {WHEN}")
