"""What the grids claim: nothing of it is told of models that learned nothing, nor of unequal sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanollama.launcher.grid.expect import select
from nanollama.launcher.grid.verdict import judge
from nanollama.launcher.plan import read_grid

CONFIGS = Path(__file__).parents[3] / "apps" / "gssm" / "config"
GRIDS = ["structure", "inference", "factors", "states", "links", "modes", "scaling"]
DIVERGENCES = ("gap_nats", "kl_nats", "kl_over_learnable")


@pytest.mark.parametrize("name", GRIDS)
def test_models_that_know_how_often_symbols_occur_tell_nothing(name: str) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml")])
    measured: dict[str, Any] = {**dict.fromkeys(DIVERGENCES, 1.0), "floor_nats": 2.0, "status": "finished"}
    rows = [{"run": run.name, **measured} for run in plan.runs]
    verdicts = judge(plan.expect, plan.runs, rows, plan.seed_key or "")
    words = [verdict.word for verdict in verdicts if verdict.expectation.measure in DIVERGENCES]
    assert words and all(
        word.startswith(("not told: kl_over_learnable <= 0.", "not told: kl_nats <= 0.")) for word in words
    )


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "scaling"])
@pytest.mark.parametrize(("first", "word"), [(1.5, "MISSED"), (2.0, "holds"), (2.5, "MISSED")])
def test_equal_rates_are_neither_larger_nor_smaller(name: str, first: float, word: str) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml")])
    (expected,) = (each for each in plan.expect if each.within is not None)
    lower = {run.name for run in select(plan.runs, expected.runs)}
    rows = [
        {
            "run": run.name,
            "status": "finished",
            "floor_nats": (first if run.name in lower else 2.0) + 0.0001 * number**2,
        }
        for number, run in enumerate(plan.runs)
    ]
    (verdict,) = judge([expected], plan.runs, rows, plan.seed_key or "")
    assert verdict.word == word


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "scaling"])
@pytest.mark.parametrize("change", [-0.5, 0.5])
def test_an_arm_of_another_rate_is_noticed_whichever_is_compared(name: str, change: float) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml")])
    rates = [each for each in plan.expect if each.measure == "floor_nats"]
    compared = {arms["arm"] for each in plan.expect if each.over for arms in (each.runs, each.over)}

    def words(other: str) -> list[str]:
        floors = (
            2.0 + 0.0001 * n**2 + change * (run.values["arm"] == other) for n, run in enumerate(plan.runs)
        )
        rows = [
            {"run": run.name, "status": "finished", "floor_nats": floor}
            for run, floor in zip(plan.runs, floors, strict=True)
        ]
        return [verdict.word for verdict in judge(rates, plan.runs, rows, plan.seed_key or "")]

    assert words("none") == ["holds"] * len(rates)
    assert len(compared) > 1 and all("MISSED" in words(arm) for arm in compared)
