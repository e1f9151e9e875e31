"""A model that has learned nothing fulfils no claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanollama.launcher.grid.expect import select
from nanollama.launcher.grid.verdict import judge
from nanollama.launcher.plan import read_grid

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
