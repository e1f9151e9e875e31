"""Claims about a grid: which runs they mean, when they hold, and every refusal."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nanollama.errors import ConfigError, UserError
from nanollama.launcher.attempts import LAUNCH
from nanollama.launcher.grid import outcome, results
from nanollama.launcher.grid.outcome import judge_grid, show_outcome
from nanollama.launcher.grid.sections import claim_blocks, unfinished_blocks
from nanollama.launcher.grid.verdict import Verdict, judge
from nanollama.launcher.grid.verdict_table import verdict_table, write_verdicts
from nanollama.launcher.plan import Plan, read_grid
from nanollama.monitor.run_folder import EVALS
from nanollama.report.page import Words
from nanollama.report.tables import Table
from nanollama.statistics import Interval, bootstrap_interval, mean_interval, sign_flip_test

GRID = """\
study: memory
name: judged
run_dir: {folder}
data: {{n_people: 32, sources: [{{kind: qa}}]}}
model: {{implementation: transformer, d_model: 32, n_layers: 2, n_heads: 2}}
training: {{{training}}}
grid: {{product: {{model.d_model: [16, 32]}}, seeds: {seeds}}}
expect: [{expect}]
"""
EVERY_5 = "n_steps: 10, eval_every: 5"
WIDE = "claim: wide models learn, runs: {model.d_model: 32}, measure: recall_trained, at_least: 0.9"
BETTER = "claim: width helps, runs: {model.d_model: 32}, minus: {model.d_model: 16}, measure: recall_trained"
RATIO = BETTER.replace("minus", "over")


def plan_of(tmp_path: Path, *expect: str, seeds: int = 2, training: str = EVERY_5) -> Plan:
    path = tmp_path / "grid.yaml"
    listed = ", ".join(f"{{{entry}}}" for entry in expect)
    text = GRID.format(folder=tmp_path / "runs", training=training, seeds=seeds, expect=listed)
    path.write_text(text, encoding="utf-8")
    return read_grid([str(path)])


def rows_of(plan: Plan, recalls: list[float]) -> list[dict[str, Any]]:
    """Rows of finished runs in the order of the grid: seed 0 narrow, seed 0 wide, seed 1 narrow, ..."""
    return [
        {"run": run.name, "status": "finished", "n_params": 1000, "recall_trained": recall}
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


def judged(plan: Plan, narrow: Sequence[Any], wide: Sequence[Any]) -> list[Verdict]:
    """The verdicts where recall is this in each seed."""
    rows = rows_of(plan, [recall for pair in zip(narrow, wide, strict=True) for recall in pair])
    return judge(plan.expect, plan.runs, rows, "training.seed")


SCATTERED = ([0.25, 0.5, 0.125, 0.25, 0.5], [0.75, 0.875, 0.75, 0.5, 0.875])
"""Differences .5, .375, .625, .25, .375: mean .425, 95 % interval .248 to .602."""


@pytest.mark.parametrize(
    ("claim", "word"),
    [
        ("at_least: 0.4, statistic: mean", "holds"),
        ("at_least: 0.426, statistic: mean", "MISSED"),
        ("at_least: 0.248, statistic: interval", "holds"),
        ("at_least: 0.249, statistic: interval", "MISSED"),
        ("at_most: 0.602, statistic: interval", "holds"),
        ("at_most: 0.601, statistic: interval", "MISSED"),
        ("at_least: 0.2, statistic: test", "holds"),  # all above: p = 1/32
        ("at_least: 0.3, statistic: test", "MISSED"),  # one below: p = 2/32
        ("at_most: 0.7, statistic: test", "holds"),
        ("within: 0.57", "holds"),  # 90 % interval .289 to .561
        ("within: 0.55", "MISSED"),
    ],
)
def test_seeds_say_it_together(tmp_path: Path, claim: str, word: str) -> None:
    (verdict,) = judged(plan_of(tmp_path, f"{BETTER}, {claim}", seeds=5), *SCATTERED)
    assert (verdict.word, verdict.failed) == (word, word == "MISSED")
    assert verdict.shown.startswith("0.425 [0.248, 0.602], 5 seeds")
    assert ("p = " in verdict.shown) == ("test" in claim or "within" in claim)


def test_ratios_are_compared_by_their_logarithms(tmp_path: Path) -> None:
    claims = [f"{RATIO}, {rest}, statistic: " for rest in ("at_least: 2",)]
    plan = plan_of(tmp_path, *(claims[0] + statistic for statistic in ("mean", "interval", "test")), seeds=5)
    narrow, wide = [0.1] * 5, [0.2, 0.4, 0.8, 0.4, 0.4]
    mean, interval, test = judged(plan, narrow, wide)
    assert mean.together is not None
    assert mean.together.mean == pytest.approx(4.0)  # geometric
    reach = math.log(2) * stats.t.ppf(0.975, 4) * math.sqrt(0.5 / 5)
    assert mean.together.low == pytest.approx(4 / math.exp(reach))
    assert test.p_value == pytest.approx(2 / 32)  # of log ratios to 2: 0, 1, 2, 1, 1
    assert (mean.word, interval.word, test.word) == ("holds", "holds", "MISSED")
    wide = [0.1, 0.32, 0.32, 0.24, 0.24]
    assert judged(plan, narrow, wide)[2].p_value == sign_flip_test(np.log(np.array(wide) / 0.2).tolist())
    assert "recall_trained (ratio)" in verdict_table([mean]).rows[0]


@pytest.mark.parametrize(
    ("bound", "p_value", "word"),
    [("at_most: 4", 1 / 32, "holds"), ("at_most: 3", 2 / 32, "MISSED"), ("at_least: 4", 1.0, "MISSED")],
)
def test_a_ratio_is_tested_on_the_side_of_its_bound(
    tmp_path: Path, bound: str, p_value: float, word: str
) -> None:
    """Of the ratios 1/2, 1, 1, 1/2 and 3; a ratio at the bound makes every sum of signs come twice."""
    plan = plan_of(tmp_path, f"{RATIO}, {bound}, statistic: test", seeds=5)
    (verdict,) = judged(plan, [0.25] * 5, [0.125, 0.25, 0.25, 0.125, 0.75])
    assert (verdict.p_value, verdict.word) == (pytest.approx(p_value), word)


@pytest.mark.parametrize(("bound", "word"), [("at_least: 1.2", "holds"), ("at_most: 2", "MISSED")])
def test_a_bootstrap_of_ratios_is_one_of_their_logarithms(tmp_path: Path, bound: str, word: str) -> None:
    doublings = [0, 1, 0, 2, 1, 0, 1, 3]
    plan = plan_of(tmp_path, f"{RATIO}, {bound}, statistic: bootstrap", seeds=8)
    (verdict,) = judged(plan, [0.125] * 8, [0.125 * 2**n for n in doublings])
    expected = bootstrap_interval([n * math.log(2) for n in doublings])
    assert verdict.together is not None and verdict.together.n == 8
    assert verdict.together[:3] == pytest.approx([math.exp(end) for end in expected[:3]])
    assert verdict.word == word


@pytest.mark.parametrize(("narrow", "wide"), [(0.0, 0.4), (0.2, 0.0), (-0.2, -0.4), (0.2, -0.4)])
@pytest.mark.parametrize("bound", ["at_least: 1", "at_most: 3", "at_least: 1, statistic: mean"])
def test_a_ratio_with_a_side_that_is_not_above_zero_is_none(
    tmp_path: Path, narrow: float, wide: float, bound: str
) -> None:
    (verdict,) = judged(plan_of(tmp_path, f"{RATIO}, {bound}"), [0.2, narrow], [0.4, wide])
    assert [str(value) for value in verdict.found] == ["2.000", "-"]
    assert verdict.word == "not told: nothing bounds 1 of 2 values" and verdict.failed


def test_a_mean_without_pairs_has_the_interval_of_seeds_and_questions(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, WIDE.replace("0.9", "0.7") + ", statistic: interval", seeds=3)
    rows = rows_of(plan, [0.5, 0.9] * 3)
    (alone,) = judge(plan.expect, plan.runs, rows, "training.seed")
    for row in rows:
        row |= {
            "recall_trained_low": row["recall_trained"] - 0.3,
            "recall_trained_high": row["recall_trained"] + 0.05,
        }
    (verdict,) = judge(plan.expect, plan.runs, rows, "training.seed")
    assert verdict.together == pytest.approx((0.9, 0.6, 0.95, 3)) and verdict.word == "MISSED"
    assert alone.together == pytest.approx(mean_interval([0.9] * 3, is_share=True))


def test_a_bootstrap_judges_eight_seeds_and_more(tmp_path: Path) -> None:
    narrow, wide = [0.25] * 8, [0.3, 0.35, 0.3, 0.4, 0.3, 0.35, 0.9, 0.3]
    claims = [f"{BETTER}, at_least: 0, statistic: {statistic}" for statistic in ("interval", "bootstrap")]
    student, bootstrap = judged(plan_of(tmp_path, *claims, seeds=8), narrow, wide)
    assert bootstrap.together == pytest.approx(bootstrap_interval(bootstrap.values))
    assert (student.word, bootstrap.word) == ("MISSED", "holds")  # one far above says nothing of below


@pytest.mark.parametrize("claim", ["at_least: 0.1, statistic: interval", "within: 0.5"])
def test_seeds_that_agree_to_the_digit_tell_no_interval(tmp_path: Path, claim: str) -> None:
    (verdict,) = judged(plan_of(tmp_path, f"{BETTER}, {claim}"), [0.5, 0.25], [0.75, 0.5])
    assert verdict.word == "not told: the values are all the same" and verdict.failed


def test_what_seeds_say_together_is_open_until_all_are_there(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, at_least: 0.9, statistic: mean", f"{BETTER}, within: 2", seeds=3)
    for verdict in judge(plan.expect, plan.runs, rows_of(plan, [0.5, 0.5, 0.5, 0.6]), "training.seed"):
        assert verdict.word == "open: 2 of 3" and not verdict.failed and verdict.p_value is None


def test_p_values_are_adjusted_for_each_other_and_for_claims_still_open(tmp_path: Path) -> None:
    tests = [f"{BETTER}, at_least: {bound}, statistic: test" for bound in (0, 0.1)]
    narrow, wide = [0.1] * 6, [0.3, 0.25, 0.4, 0.15, 0.3, 0.3]
    alone = judged(plan_of(tmp_path, tests[0], f"{BETTER}, at_least: 0", seeds=6), narrow, wide)
    assert [verdict.p_value for verdict in alone] == [1 / 64, None]
    both = judged(plan_of(tmp_path, *tests, seeds=6), narrow, wide)
    assert [verdict.p_value for verdict in both] == [2 / 64, 3 / 64] and both[1].word == "holds"
    assert verdict_table(both).caption.endswith("; p values are adjusted for 2 tests (Holm).")
    wide_runs = "{model.d_model: 32}"
    equal = f"claim: same, runs: {wide_runs}, minus: {wide_runs}, measure: recall_trained, within: 1"
    beside = judged(plan_of(tmp_path, tests[0], equal, seeds=6), narrow, wide)  # without a p value
    assert beside[0].p_value == 2 / 64


@pytest.mark.parametrize(
    ("condition", "word", "given"),
    [
        ("at_least: 0.5", "holds", "2 of 2"),
        ("at_most: 0.9", "not told: recall_trained <= 0.9 in 1 of 2 runs", "1 of 2"),
        ("at_least: 0.6", "not told: recall_trained >= 0.6 in 0 of 2 runs", "0 of 2"),  # those compared with
    ],
)
def test_what_was_not_learned_proves_nothing(tmp_path: Path, condition: str, word: str, given: str) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, at_least: 0.1, given: {{measure: recall_trained, {condition}}}")
    (verdict,) = judged(plan, [0.5, 0.5], [0.9, 0.95])
    assert (verdict.word, verdict.failed) == (word, word != "holds")
    assert verdict.shown == f"0.400, 0.450 (given in {given} runs)"


def steps_plan(tmp_path: Path, claim: str, curves: Sequence[Sequence[float]]) -> list[Verdict]:
    """Verdicts where recall at steps 10, 20, ... is this in the runs of the grid."""
    claim = f"{BETTER.replace('minus', 'over')}, reaches: 0.9, {claim}"
    plan = plan_of(tmp_path, claim, seeds=len(curves) // 2)
    for run, curve in zip(plan.runs, curves, strict=True):
        run.folder.mkdir(parents=True)
        evals = [
            {"step": 10 * number, "recall_trained": recall} for number, recall in enumerate(curve, start=1)
        ]
        (run.folder / EVALS).write_text("".join(json.dumps(row) + "\n" for row in evals), encoding="utf-8")
    return judge(plan.expect, plan.runs, rows_of(plan, [curve[-1] for curve in curves]), "training.seed")


LATE, NEVER = [0.1, 0.9, 0.3, 0.95], [0.1, 0.2, 0.3, 0.4]  # step 20, and not within 40 steps


@pytest.mark.parametrize(
    ("claim", "curves", "shown", "word"),
    [
        ("at_least: 0.5", [LATE, LATE, [0.95], LATE], "1.000, 2.000", "holds"),
        ("at_least: 2", [LATE, LATE, [0.95], LATE], "1.000, 2.000", "MISSED"),
        ("at_least: 2", [LATE, NEVER, LATE, NEVER], "> 2.000, > 2.000", "holds"),
        (
            "at_least: 3",
            [LATE, NEVER, LATE, NEVER],
            "> 2.000, > 2.000",
            "not told: nothing bounds 2 of 2 values",
        ),
        (
            "at_least: 0.1",
            [NEVER, LATE, LATE, LATE],
            "< 0.500, 1.000",
            "not told: nothing bounds 1 of 2 values",
        ),
        ("at_least: 1", [NEVER, NEVER[:2], LATE, LATE], "-, 1.000", "not told: nothing bounds 1 of 2 values"),
        ("at_least: 0.6", [NEVER, LATE, LATE, LATE], "< 0.500, 1.000", "MISSED"),
        ("at_most: 0.5", [NEVER, LATE, NEVER, LATE], "< 0.500, < 0.500", "holds"),
        (
            "at_most: 0.4",
            [NEVER, LATE, NEVER, LATE],
            "< 0.500, < 0.500",
            "not told: nothing bounds 2 of 2 values",
        ),
        ("at_most: 1.9", [LATE, NEVER, LATE, LATE], "> 2.000, 1.000", "MISSED"),
        (
            "at_least: 1.5, statistic: mean",
            [LATE, NEVER, LATE, LATE],
            "> 1.414 [",
            "not told: nothing bounds 1",
        ),
        (
            "at_least: 0.1, statistic: interval",
            [LATE, NEVER, LATE, LATE],
            "> 2.000",
            "not told: nothing bounds 1",
        ),
        (
            "at_least: 0.1, statistic: bootstrap",
            [LATE, NEVER, *[LATE, LATE, [0.95], LATE] * 4],
            "1.000 to > 2.000 (9 runs)",
            "not told: nothing bounds 1 of 9 values",
        ),
        (
            "at_least: 0.1",
            [NEVER, NEVER, *[LATE, LATE, [0.95], LATE] * 4],
            "1.000 to 2.000 (9 runs)",
            "not told: nothing bounds 1 of 9 values",
        ),
        ("at_most: 3", [LATE, NEVER, LATE, LATE], "> 2.000, 1.000", "not told: nothing bounds 1 of 2 values"),
        ("at_most: 1", [LATE, NEVER, LATE, LATE], "> 2.000, 1.000", "MISSED"),
        ("at_least: 1.4, statistic: mean", [LATE, NEVER, LATE, LATE], "> 1.414 [", "holds"),
        (
            "at_least: 0.1, statistic: mean",
            [NEVER, NEVER, LATE, LATE],
            "-, 1.000",
            "not told: nothing bounds",
        ),
    ],
)
def test_a_run_that_never_gets_there_is_a_bound(
    tmp_path: Path, claim: str, curves: Sequence[Sequence[float]], shown: str, word: str
) -> None:
    (verdict,) = steps_plan(tmp_path, claim, curves)
    assert verdict.shown.startswith(shown) and verdict.word.startswith(word)
    assert verdict_table([verdict]).rows[0][1] == "steps to recall_trained 0.9 (ratio)"


def test_differences_too_small_for_three_decimals_show_their_size(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, at_least: 0")
    verdicts = judge(plan.expect, plan.runs, rows_of(plan, [0.5, 0.50002, 0.5, 0.5]), "training.seed")
    assert "2e-05, 0.000" in verdict_table(verdicts).rows[0]


def test_runs_are_chosen_by_any_of_several_values_and_through_lists(tmp_path: Path) -> None:
    chosen = "{model.d_model: [16, 32], data.sources.0.kind: qa}"
    plan = plan_of(tmp_path, f"claim: all, runs: {chosen}, measure: recall_trained, at_least: 0")
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, [0.1, 0.2, 0.3, 0.4]), "training.seed")
    assert verdict.values == (0.1, 0.2, 0.3, 0.4)


def test_the_verdict_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "write_grid_page", lambda grid: None)  # needs runs that were
    plan = plan_of(tmp_path, WIDE, f"{BETTER}, at_least: 0.7")
    plan.folder.mkdir()
    assert show_outcome(judge_grid(plan, rows_of(plan, [0.25, 0.95, 0.125, 0.95]))) == 0
    assert show_outcome(judge_grid(plan, rows_of(plan, [0.5, 0.95, 0.125, 0.95]))) == 1
    assert "0.450, 0.825" in capsys.readouterr().out
    assert "| width helps" in (plan.folder / "verdict.md").read_text()
    verdicts = [entry["verdict"] for entry in json.loads((plan.folder / "verdict.json").read_text())]
    assert verdicts == ["holds", "MISSED"]


def test_the_file_of_verdicts_has_all_that_was_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, at_least: 0.2, statistic: test", seeds=5)
    verdicts = judged(plan, *SCATTERED)
    write_verdicts(tmp_path, verdicts, "Of five.", plan.seeds, ["grid.seeds=5"])
    (entry,) = json.loads((tmp_path / "verdict.json").read_text())
    assert entry == {
        **plan.expect[0].model_dump(exclude_none=True),
        "values": [0.5, 0.375, 0.625, 0.25, 0.375],
        "signs": [""] * 5,
        "n_expected": 5,
        "missing": [],
        "diverged": [],
        "together": {
            "mean": pytest.approx(0.425),
            "low": pytest.approx(0.248, abs=5e-4),
            "high": pytest.approx(0.602, abs=5e-4),
            "n": 5,
        },
        "p_value": 1 / 32,
        "verdict": "holds",
        "seeds": [0, 1, 2, 3, 4],
        "keys": ["grid.seeds=5"],
    }
    head, _, _ = (tmp_path / "verdict.md").read_text().partition("\n| ---")
    assert head.splitlines()[0].endswith(" Of five.")
    names = ("claim", "measure", "expected", "found", "verdict")
    assert verdict_table(verdicts).columns == names
    assert [name.strip() for name in head.splitlines()[-1].strip("|").split("|")] == [*names]


def test_of_two_runs_compared_the_first_gives_its_name(tmp_path: Path) -> None:
    (verdict,) = judged(plan_of(tmp_path, f"{BETTER}, at_least: 0.2"), [0.25, 0.5], [0.75, 0.875])
    assert [(name, str(first), str(other)) for name, first, other in verdict.pairs] == [
        ("d_model-32_seed-0", "0.750", "0.250"),
        ("d_model-32_seed-1", "0.875", "0.500"),
    ]


def test_the_verdict_says_of_which_seeds_it_is_and_goes_with_its_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs on fresh seeds lie in the same folder, and so does what is found of them."""
    monkeypatch.setattr(outcome, "write_grid_page", lambda grid: None)
    plan = plan_of(tmp_path, WIDE)
    plan.folder.mkdir()
    typed = ["grid.seeds=[100,101]", "local.n_jobs=2"]
    for keys, told in (
        ([], "Of 4 runs, seeds 0, 1."),
        (typed, f"Of 4 runs, seeds 100, 101, with `{typed[0]}`."),
    ):
        fresh = read_grid([str(tmp_path / "grid.yaml"), *keys])
        assert fresh.folder == plan.folder
        show_outcome(judge_grid(fresh, rows_of(fresh, [0.25, 0.95, 0.125, 0.95])))
        caption, rest = (plan.folder / "verdict.md").read_text().split("\n\n")
        assert caption.endswith(told) and rest.startswith("| claim")
        assert told in capsys.readouterr().out
        (entry,) = json.loads((plan.folder / "verdict.json").read_text())
        assert (entry["seeds"], entry["keys"]) == (fresh.seeds, keys[:1])
    bare = read_grid([str(tmp_path / "grid.yaml"), "expect=[]"])
    assert show_outcome(judge_grid(bare, rows_of(bare, [0.25, 0.95, 0.125, 0.95]))) == 0
    assert not [*plan.folder.glob("verdict.*")]


TOGETHER = f"{BETTER}, at_least: 0.1, statistic: mean"
GIVEN = f"{WIDE}, given: {{measure: recall_trained, at_least: 0}}"


@pytest.mark.parametrize(
    ("claim", "ended", "word"),
    [
        (WIDE, "ffff", "holds"),
        (WIDE, "dfdf", "holds"),  # it is not about those
        (WIDE, "fdff", "MISSED: 1 of 2 diverged"),
        (WIDE, "fdf", "MISSED: 1 of 2 diverged"),  # whatever the other will say
        (f"{BETTER}, at_least: 0.1", "dfff", "MISSED: 1 of 2 diverged"),
        (TOGETHER, "fdfd", "not told: 2 of 2 diverged"),
        (GIVEN, "fdff", "not told: 1 of 2 diverged"),
    ],
)
def test_a_run_that_diverged_is_an_outcome(tmp_path: Path, claim: str, ended: str, word: str) -> None:
    plan = plan_of(tmp_path, claim)
    (verdict,) = judge(plan.expect, plan.runs, ended_rows(plan, ended), "training.seed")
    assert verdict.word == word and verdict.failed == (word != "holds")
    given = " (given in 1 of 2 runs, 1 diverged)" if claim == GIVEN else ""
    assert verdict.shown.partition(" (")[1:] == given.partition(" (")[1:]


def ended_rows(plan: Plan, ended: str) -> list[dict[str, Any]]:
    """Rows of runs that finished (f) or diverged (d), which had learned by then."""
    status = {"f": "finished", "d": "diverged"}
    rows = rows_of(plan, [0.1, 0.95, 0.2, 0.95])
    return [{**row, "status": status[how]} for row, how in zip(rows, ended, strict=False)]


def test_who_has_ended_without_finishing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no claim is about them, and where a claim stays open, as a killed run may yet finish."""
    monkeypatch.setattr(outcome, "write_grid_page", lambda grid: None)
    plan = plan_of(tmp_path, WIDE)
    plan.folder.mkdir()
    assert show_outcome(judge_grid(plan, ended_rows(plan, "fff"))) == 0, "one is still to come"
    assert show_outcome(judge_grid(plan, ended_rows(plan, "dfff"))) == 1
    said = capsys.readouterr().out
    assert f"Ended without finishing: 1 run of 4\n  {plan.runs[0].name}: diverged\n" in said
    killed = plan.runs[3]
    killed.folder.mkdir()
    launch = {"began": "2026-11-28T00:00:00+00:00", "host": "h", "pid": 1, "exit_code": -9}
    (killed.folder / LAUNCH).write_text(json.dumps(launch))
    grid = judge_grid(plan, ended_rows(plan, "fff"))
    assert show_outcome(grid) == 1 and grid.verdicts[0].word == "open: 1 of 2"
    assert f"  {killed.name}: killed by SIGKILL (out of memory?)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exit_code", "queue", "code", "kind", "reason"),
    [
        (None, {}, 1, "failed", "its Slurm job 7 has ended without a word: was it killed?"),
        (None, {"7": "RUNNING"}, 0, "running", "-"),
        (None, None, 0, "running", "-"),  # Slurm cannot be asked
        (1, {"7": "REQUEUED"}, 0, "queued", "-"),
        (1, {}, 1, "failed", "exit code 1"),
    ],
)
def test_of_the_runs_of_slurm_the_queue_is_asked_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exit_code: int | None,
    queue: dict[str, str] | None,
    code: int,
    kind: str,
    reason: str,
) -> None:
    asked = iter([queue])  # there is no second answer
    monkeypatch.setattr(results, "read_queue", lambda: next(asked))
    monkeypatch.setattr(outcome, "write_grid_page", lambda grid: None)
    plan = plan_of(tmp_path, WIDE)
    job = plan.runs[3]
    job.folder.mkdir(parents=True)
    launch = {"began": "2026-11-28T00:00:00+00:00", "host": "h", "pid": 1, "exit_code": exit_code, "job": "7"}
    (job.folder / LAUNCH).write_text(json.dumps(launch))
    grid = judge_grid(plan, ended_rows(plan, "fff"))
    assert show_outcome(grid) == code
    assert (f"  {job.name}: {reason}" in capsys.readouterr().out) == (code == 1)
    table = unfinished_blocks(grid)[0]
    assert isinstance(table, Table) and table.rows == ((job.name, kind, reason),)


def test_an_end_that_nothing_bounds_is_null_for_readers_of_json(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TOGETHER)
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, [0.1, 0.95, 0.2, 0.9]), "training.seed")
    endless = replace(verdict, together=Interval(0.8, -math.inf, 0.9, 2))
    write_verdicts(tmp_path, [endless], plan.told, plan.seeds, plan.keys)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (entry,) = json.loads((tmp_path / "verdict.json").read_text(), parse_constant=refuse)
    assert (entry["together"]["low"], entry["together"]["high"]) == (None, 0.9)


def test_a_claim_that_was_changed_says_so_beside_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "write_grid_page", lambda grid: None)
    plan = plan_of(
        tmp_path, f"{WIDE}, changed: '2026-11-27, after the results: a seed more'", f"{BETTER}, at_least: 0.7"
    )
    plan.folder.mkdir()
    grid = judge_grid(plan, rows_of(plan, [0.25, 0.95, 0.125, 0.95]))
    assert [row[-1] for row in verdict_table(grid.verdicts).rows] == ["holds; claim changed", "holds"]
    said = f"The claim '{plan.expect[0].claim}' was changed: 2026-11-27, after the results: a seed more."
    show_outcome(grid)
    assert said in capsys.readouterr().out.splitlines()
    assert Words(said) in claim_blocks(grid.verdicts, plan.told)
    first, second = json.loads((plan.folder / "verdict.json").read_text())
    assert first["changed"].startswith("2026-11-27") and "changed" not in second
    assert first["verdict"] == "holds"


@pytest.mark.parametrize(("claim", "values"), [(WIDE, (0.95,)), (f"{BETTER}, at_least: 0.7", (0.85,))])
def test_a_finished_run_without_a_number_leaves_its_claim_untold(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    claim: str,
    values: tuple[float, ...],
) -> None:
    monkeypatch.setattr(outcome, "write_grid_page", lambda grid: None)
    plan = plan_of(tmp_path, claim)
    plan.folder.mkdir()
    rows: list[Any] = rows_of(plan, [0.1, 0.95, 0.2, 0.9])
    rows[3]["recall_trained"] = None
    (verdict,) = judge(plan.expect, plan.runs, rows, "training.seed")
    assert verdict.values == pytest.approx(values)
    assert verdict.word == "not told: recall_trained is no number in 1 of 2"
    assert verdict.missing == (plan.runs[3].name,)
    assert show_outcome(judge_grid(plan, rows)) == 1  # waiting will not tell it either
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(
        f"such as {plan.runs[3].name}: finished, but recall_trained is no number there (null)."
    )
    assert json.loads((plan.folder / "verdict.json").read_text())[0]["missing"] == [plan.runs[3].name]


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("claim: x, measure: recall_trained", "the claim 'x' needs one of at_least, at_most and within"),
        (
            "claim: x, measure: recall_trained, at_least: 0, at_most: 1",
            "needs one of at_least, at_most and within",
        ),
        ("claim: x, measure: recall_trained, atleast: 0", "did you mean 'at_least'?"),
        (
            "claim: x, runs: {model.d_model: 16, training.seed: [0, 2]}, measure: loss, at_least: 0",
            "the claim 'x' chooses runs by training.seed = 2, but in the grid it is 0 or 1.",
        ),
        (
            "claim: x, runs: {data.sources.0.kind: qaa}, measure: recall_trained, at_least: 0",
            "by data.sources.0.kind = 'qaa', but in the grid it is qa; did you mean 'qa'?",
        ),
        (
            "claim: x, minus: {model.d_mode: 16}, measure: recall_trained, at_least: 0",
            "chooses minus by 'model.d_mode', which no run of the grid has; did you mean 'model.d_model'?",
        ),
        (
            "claim: x, over: {n_people: 1}, measure: recall_trained, at_least: 1",
            "chooses over by 'n_people', which no run of the grid has",
        ),
        (
            "claim: x, minus: {model.n_layers: 2}, measure: recall_trained, at_least: 0",
            'subtracts runs of one setting, but {"model.n_layers": 2} names 2: d_model=16; d_model=32.',
        ),
        (
            "claim: x, over: {model.n_layers: 2}, measure: recall_trained, at_least: 1",
            'divides by runs of one setting, but {"model.n_layers": 2} names 2',
        ),
        (
            "claim: x, measure: recall_trained, at_least: 0, statistic: mean",
            "the claim 'x' is about runs of one setting, but {} names 2: d_model=16; d_model=32.",
        ),
        (f"{BETTER}, over: {{model.d_model: 16}}, at_least: 1", "has both minus and over: keep one"),
        ("claim: x, measure: recall_trained, within: 0.1", "within goes with minus and without statistic"),
        (f"{BETTER}, within: 0.1, statistic: mean", "within goes with minus and without statistic"),
        (f"{BETTER}, within: -0.1", "expect.0.within"),
        (
            "claim: x, measure: recall_trained, at_least: 0, statistic: test",
            "statistic test needs minus or over",
        ),
        (f"{RATIO}, at_least: 0", "a ratio is above 0, so its bound must be, too"),
        (f"{BETTER}, at_least: 0, given: {{measure: recall_trained}}", "needs one of at_least and at_most"),
        (
            f"{BETTER}, at_least: 0, statistic: test",
            "the claim 'width helps' (statistic: test) has 2 seeds, and needs at least 5 to be told",
        ),
        (f"{BETTER}, at_least: 0, statistic: bootstrap", "has 2 seeds, and needs at least 8 to be told"),
    ],
)
def test_claims_about_nothing_are_refused_before_anything_runs(
    tmp_path: Path, expect: str, message: str
) -> None:
    with pytest.raises((ConfigError, UserError)) as raised:
        plan_of(tmp_path, expect)
    assert message in str(raised.value)


def test_tests_beside_each_other_need_more_seeds(tmp_path: Path) -> None:
    tests = [f"{BETTER}, at_least: {bound}, statistic: test" for bound in (0, 0.1)]
    plan_of(tmp_path, tests[0], seeds=5)
    with pytest.raises(UserError, match="has 5 seeds, and needs at least 6 beside 1 other test to be told"):
        plan_of(tmp_path, *tests, seeds=5)
    plan_of(tmp_path, *tests, seeds=6)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            "n_steps: 10",
            "when recall_trained reaches 0.9, but in the run d_model-16_seed-0 training.eval_every, which",
        ),
        (
            "n_steps: 10, eval_every: 5, stop_when: {recall_trained: 0.8}",
            "training.stop_when stops it at a smaller recall_trained",
        ),
    ],
)
def test_runs_that_do_not_tell_when_a_value_is_reached_are_refused(
    tmp_path: Path, training: str, message: str
) -> None:
    claim = "claim: x, measure: recall_trained, reaches: 0.9, at_most: 5"
    plan_of(
        tmp_path, claim, training="n_steps: 10, eval_every: 5, stop_when: {recall_trained: 0.9, loss: 0.1}"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        plan_of(tmp_path, claim, training=training)


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
    expect = f"{{{BETTER}, at_least: 0}}"
    text = GRID.format(folder=tmp_path / "runs", training=EVERY_5, seeds=2, expect=expect)
    path.write_text(re.sub("grid: .*", f"grid: {{zip: [{{{zipped}}}]}}", text), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        read_grid([str(path)])


def test_a_measure_that_is_not_there(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "claim: x, measure: recall_trained_occupation, at_least: 0")
    with pytest.raises(UserError, match=r"'recall_trained_occ.*', which the run .* did not measure; did you"):
        judge(plan.expect, plan.runs, rows_of(plan, [0.5]), "training.seed")


@pytest.mark.parametrize(
    "entry",
    [
        "measure: recal_trained, at_least: 0",
        "measure: loss, at_most: 1, given: {measure: recal_trained, at_least: 0}",
    ],
)
def test_a_measure_that_no_run_of_the_study_has_is_refused_before_anything_runs(
    tmp_path: Path, entry: str
) -> None:
    with pytest.raises(UserError, match=r"'recal_trained', which no run .*; did you mean 'recall_trained'"):
        plan_of(tmp_path, f"claim: x, {entry}")
