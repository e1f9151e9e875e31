"""Values at a bound, values that rounding makes, measures that evaluations lack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_verdict import BETTER, RATIO, plan_of, rows_of

from nanollama.errors import UserError
from nanollama.launcher.attempts import Launch, write_launch
from nanollama.launcher.grid import results
from nanollama.launcher.grid.results import collect
from nanollama.launcher.grid.verdict import Verdict, judge
from nanollama.monitor.run_folder import EVALS, RESULT
from nanollama.monitor.successor import order_anew
from nanollama.statistics import bootstrap_interval, equivalence_test, mean_interval

PERCENT = (87.0, 92.1, 88.2, 96.8, 86.1, 90.0)
SHARES = (0.0, 0.0, 0.0, 0.5, 0.0, 1.0)


def judged(tmp_path: Path, claim: str, recalls: Sequence[float]) -> Verdict:
    plan = plan_of(tmp_path, claim, seeds=len(recalls) // 2)
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, list(recalls)), "training.seed")
    return verdict


@pytest.mark.parametrize(
    ("claim", "recalls", "word"),
    [
        (
            f"{BETTER}, at_least: 0.1",
            [0.8, 0.9, 0.7, 0.8, 0.6, 0.7],
            "holds",
        ),  # two of them .09999999999999998
        (f"{BETTER}, at_most: 0.1", [0.8, 0.9, 0.7, 0.8, 0.6, 0.7], "holds"),  # and one .10000000000000009
        (f"{RATIO}, at_least: 3", [0.3, 0.9, 0.2, 0.6, 0.1, 0.3], "holds"),  # 2.9999999999999996
        (f"{BETTER}, at_least: 0.1", [0.8, 0.9, 0.7, 0.7999, 0.6, 0.7], "MISSED"),
        (f"{BETTER}, within: 0.15", [0.8, 0.9, 0.7, 0.8, 0.6, 0.7], "not told: the values are all the same"),
    ],
)
def test_rounding_decides_nothing(tmp_path: Path, claim: str, recalls: Sequence[float], word: str) -> None:
    assert judged(tmp_path, claim, recalls).word == word


ALONE = "claim: wide ones learn, runs: {model.d_model: 32}, measure: recall_trained, statistic: interval"


@pytest.mark.parametrize(
    ("claim", "recalls", "word", "shown"),
    [
        (f"{BETTER}, at_most: 2, statistic: interval", PERCENT, "MISSED", "5.867 [-0.200, 11.933], 3 seeds"),
        (f"{ALONE}, at_least: 80", PERCENT, "holds", "92.967 [84.317, 101.616], 3 seeds"),
        (f"{ALONE}, at_most: 95", PERCENT, "MISSED", "92.967 [84.317, 101.616], 3 seeds"),
        (f"{BETTER}, at_most: 1, statistic: interval", SHARES, "holds", "0.500 [-0.742, 1.000], 3 seeds"),
        (f"{ALONE}, at_most: 1", SHARES, "holds", "0.500 [0.000, 1.000], 3 seeds"),
    ],
)
def test_percentages_are_no_shares(
    tmp_path: Path, claim: str, recalls: Sequence[float], word: str, shown: str
) -> None:
    found = judged(tmp_path, claim, recalls)
    assert (found.shown, found.word) == (shown, word)


def test_what_differs_by_rounding_is_all_the_same() -> None:
    differences = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6] * 3
    assert len(set(differences)) > 1
    assert equivalence_test(differences, 0.15) != equivalence_test(differences, 0.15)
    for interval in (mean_interval(differences), bootstrap_interval(differences)):
        assert interval.low != interval.low and interval.mean == pytest.approx(0.1)


def test_a_measure_that_evaluations_lack_was_not_unreached(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{RATIO}, reaches: 0.9, at_least: 1")
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        (run.folder / EVALS).write_text(json.dumps({"step": 5, "accuracy": 1.0}) + "\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"asks when recall_trained reaches 0.9, but no evaluation of the run"
    ):
        judge(plan.expect, plan.runs, rows_of(plan, [0.5] * 4), "training.seed")


def test_a_run_that_is_ordered_anew_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, f"{BETTER}, at_least: 0.1")
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        (run.folder / RESULT).write_text(
            json.dumps({"status": "finished", "metrics": {"recall_trained": 0.5}, "config_hash": run.id})
        )
    assert len(collect(plan)) == 4
    order_anew(plan.runs[0].folder)
    assert len(collect(plan)) == 3
    write_launch(plan.runs[0].folder, Launch(job="7", queued=True))
    monkeypatch.setattr(results, "read_queue", lambda: {"7": "PENDING"})
    assert len(collect(plan)) == 3
    monkeypatch.setattr(results, "read_queue", dict)  # the job was cancelled
    assert len(collect(plan)) == 4


@pytest.mark.parametrize("statistic", ["each", "mean"])
def test_what_is_not_a_number_tells_nothing(tmp_path: Path, statistic: str) -> None:
    claim = f"{BETTER}, at_least: 0.1, statistic: {statistic}"
    verdict = judged(tmp_path, claim, [0.5, float("nan"), 0.5, 0.9])
    assert verdict.word == "not told: recall_trained is no number in 1 of 2"


def test_a_difference_of_shares_is_at_most_one(tmp_path: Path) -> None:
    recalls = [0.0, 1.0, 0.1, 0.9, 0.0, 0.95]  # as those of a model that asks and one that does not
    together = judged(tmp_path, f"{BETTER}, at_least: 0.1, statistic: mean", recalls).together
    assert together is not None and together.high == 1.0 and 0.5 < together.low < together.mean < 1.0
