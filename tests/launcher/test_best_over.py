"""Claims about the best of a sweep: of runs that differ in one key alone, the largest or smallest counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_verdict import plan_of, rows_of

from nanollama.errors import ConfigError, UserError
from nanollama.launcher.grid.verdict import Verdict, judge

WIDTH = "measure: recall_trained, best_over: model.d_model"


def judged(tmp_path: Path, claim: str, recalls: list[float]) -> Verdict:
    """The grid: d_model 16, 32 with seed 0, then with seed 1."""
    plan = plan_of(tmp_path, f"claim: x, {claim}")
    (verdict,) = judge(plan.expect, plan.runs, rows_of(plan, recalls), "training.seed")
    return verdict


@pytest.mark.parametrize(
    ("claim", "values", "word"),
    [
        (f"{WIDTH}, at_least: 0.9", (0.95, 0.9), "holds"),
        (f"{WIDTH}, at_most: 0.1", (0.0, 0.2), "MISSED"),  # what is to be small is best when it is smallest
        (f"{WIDTH}, at_least: 0.92, statistic: mean", (0.95, 0.9), "holds"),
    ],
)
def test_the_best_counts(tmp_path: Path, claim: str, values: tuple[float, ...], word: str) -> None:
    verdict = judged(tmp_path, claim, [0.0, 0.95, 0.9, 0.2])
    assert (verdict.values, verdict.word) == (values, word)


def test_a_rival_that_diverged_is_not_the_best(tmp_path: Path) -> None:
    """As the largest of some learning rates often does; where all rivals diverged there is no best."""
    plan = plan_of(tmp_path, f"claim: x, {WIDTH}, at_least: 0.5")
    rows = rows_of(plan, [0.6, 0.95, 0.9, 0.2])
    rows[1]["status"] = "diverged"
    (verdict,) = judge(plan.expect, plan.runs, rows, "training.seed")
    assert (verdict.values, verdict.word) == ((0.6, 0.9), "holds")
    rows[0]["status"] = "diverged"
    (verdict,) = judge(plan.expect, plan.runs, rows, "training.seed")
    assert (verdict.values, verdict.word) == ((0.9,), "MISSED: 1 of 2 diverged")


def test_both_sides_of_a_difference_are_the_best(tmp_path: Path) -> None:
    claim = "runs: {training.seed: 1}, minus: {training.seed: 1}, at_least: 0"
    assert judged(tmp_path, f"{WIDTH}, {claim}", [0.0, 0.5, 0.9, 0.2]).values == (0.0,)


def test_it_is_open_until_all_rivals_are_there(tmp_path: Path) -> None:
    verdict = judged(tmp_path, f"{WIDTH}, at_least: 0.9", [0.1, 0.95, 0.99])
    assert (verdict.values, verdict.word) == ((0.95,), "open: 1 of 2")


def test_a_key_that_does_not_vary_offers_no_choice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"best over 'model.n_layers', which does not vary in the grid"):
        plan_of(tmp_path, "claim: x, measure: recall_trained, best_over: model.n_layers, at_least: 0")
    with pytest.raises(
        UserError, match=r"the best over 'training.seed', the key of the seeds: the best of them"
    ):
        plan_of(tmp_path, "claim: x, measure: recall_trained, best_over: training.seed, at_least: 0")
    with pytest.raises(ConfigError, match="best_over does not go with reaches"):
        plan_of(tmp_path, f"claim: x, {WIDTH}, reaches: 0.5, at_least: 0")
    with pytest.raises(ConfigError, match="best_over needs at_least or at_most"):
        claim = "runs: {training.seed: 1}, minus: {training.seed: 1}, within: 0.1"
        plan_of(tmp_path, f"claim: x, {WIDTH}, {claim}")
