"""A model that has learned nothing fulfils no claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanollama.launcher.grid.expect import select
from nanollama.launcher.grid.verdict import judge
from nanollama.launcher.plan import read_grid
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS

CONFIGS = Path(__file__).parents[3] / "apps" / "memory" / "config"
SETS = ("trained", "unseen", "new_names", "sums_trained", "sums_unseen", "sums_longer")


@pytest.mark.parametrize("name", ["calculator", "params_needed", "demo", "ood_grid"])
def test_nothing_is_told_of_who_answers_by_heart_and_knows_nothing(name: str) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml")])
    by_heart = select(plan.runs, {"data.sources.0.kind": ["qa", "sums"]})
    knows = {run.name: 0.0 if run in by_heart else 1.0 for run in plan.runs}
    rows = [
        {"run": run, "status": "finished", **{f"recall_{people}": recall for people in SETS}}
        for run, recall in knows.items()
    ]
    words = [
        verdict.word
        for verdict in judge(plan.expect, plan.runs, rows, plan.seed_key or "training.seed")
        for claim in [verdict.expectation]
        if select(by_heart, claim.runs) or (claim.minus and select(by_heart, claim.minus))
    ]
    assert words and "holds" not in words


@pytest.mark.parametrize(("recall", "word"), [(0.0, "not told"), (0.95, "holds")])
def test_who_has_not_learned_to_ask_is_not_said_to_be_behind(recall: float, word: str) -> None:
    """The transformer knows all; Mamba2 as many of those it learned about, and no stranger."""
    plan = read_grid([str(CONFIGS / "zoo.yaml")])
    (behind,) = (claim for claim in plan.expect if claim.minus)
    behind_runs = {run.name for run in select(plan.runs, behind.minus or {})}
    rows = [
        {
            "run": run.name,
            "status": "finished",
            "recall_trained": recall if run.name in behind_runs else 1.0,
            "recall_unseen": 0.01 * number if run.name in behind_runs else 0.9 + 0.01 * number,
        }
        for number, run in enumerate(plan.runs)
    ]
    (verdict,) = judge([behind], plan.runs, rows, plan.seed_key or "training.seed")
    assert verdict.word.startswith(word)


@pytest.mark.parametrize(("independent", "word"), [(0.079, "not told"), (0.2, "holds")])
def test_dependent_facts_are_not_recalled_better_than_what_was_not_learned(
    independent: float, word: str
) -> None:
    plan = read_grid([str(CONFIGS / "compressibility.yaml")])
    dependent = {run.name for run in select(plan.runs, {"data.dependence.alpha": 0})}
    rows = [
        {
            "run": run.name,
            "status": "finished",
            "recall_trained": 0.84 if run.name in dependent else independent,
        }
        for run in plan.runs
    ]
    (verdict,) = judge(plan.expect, plan.runs, rows, plan.seed_key or "training.seed")
    assert verdict.word.startswith(word)


@pytest.mark.parametrize(("strangers", "is_told"), [(0.06, False), (0.64, True)])
def test_what_asking_costs_is_told_only_of_who_asks(tmp_path: Path, strangers: float, is_told: bool) -> None:
    """By heart nobody knows a stranger, whatever it costs."""
    plan = read_grid([str(CONFIGS / "forgetting.yaml"), f"run_dir={tmp_path}/runs"])
    asking = {run.name for run in select(plan.runs, {"data.sources.0.kind": "qatool"})}
    rows = []
    for number, run in enumerate(plan.runs):
        found = {
            "recall_trained": 1.0,
            "recall_unseen": strangers if run.name in asking else 0.0,
            "total_variation_base": 0.2 + 0.00001 * number**3,
            "text_loss_change_nats": 0.2 + 0.00001 * number**3,
        }
        run.folder.mkdir(parents=True)
        RowFile(run.folder / EVALS).append({"step": 50, **found})
        rows.append({"run": run.name, "status": "finished", **found})
    verdicts = judge(plan.expect, plan.runs, rows, plan.seed_key or "training.seed")
    costs = [
        verdict
        for verdict in verdicts
        if verdict.expectation.others and verdict.expectation.runs["data.sources.0.kind"] == "qatool"
    ]
    assert len(costs) == 15
    assert {verdict.word.startswith("not told") for verdict in costs} == {not is_told}
