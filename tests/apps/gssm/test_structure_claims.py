"""What the grids claim: nothing is told of models that learned nothing, of unequal sources, or by chance."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.gssm.associative import draw
from apps.gssm.data_config import GraphDataConfig
from apps.gssm.recall_config import RecallDataConfig
from apps.gssm.settings import GssmConfig
from nanollama.launcher.grid.expect import Expectation, select
from nanollama.launcher.grid.verdict import judge
from nanollama.launcher.plan import Plan, read_grid
from nanollama.model import outline

CONFIGS = Path(__file__).parents[3] / "apps" / "gssm" / "config"
GRIDS = ["structure", "inference", "factors", "states", "links", "modes", "scaling"]
SCALES = ["small", "paper"]
N_GRIDS = 200
DIVERGENCES = ("gap_nats", "kl_nats", "kl_over_learnable")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", GRIDS)
def test_models_that_know_how_often_symbols_occur_tell_nothing(name: str, scale: str) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml"), f"scale={scale}"])
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
@pytest.mark.parametrize("scale", SCALES)
def test_an_arm_of_another_rate_is_noticed_whichever_is_compared(
    name: str, change: float, scale: str
) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml"), f"scale={scale}"])
    rates = [each for each in plan.expect if each.measure == "floor_nats"]
    compared = {arms["arm"] for each in plan.expect if each.over for arms in (each.runs, each.over)}

    def words(other: str) -> list[str]:
        floors = (
            2.0 + 0.05 * (n / len(plan.runs)) ** 2 + change * (run.values["arm"] == other)
            for n, run in enumerate(plan.runs)
        )
        rows = [
            {"run": run.name, "status": "finished", "floor_nats": floor}
            for run, floor in zip(plan.runs, floors, strict=True)
        ]
        return [verdict.word for verdict in judge(rates, plan.runs, rows, plan.seed_key or "")]

    assert words("none") == ["holds"] * len(rates)
    assert len(compared) > 1 and all("MISSED" in words(arm) for arm in compared)


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "structure"])
def test_what_is_no_larger_than_its_bound_is_seldom_called_larger(name: str) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml")])
    claims = [each for each in plan.expect if each.over is not None]
    assert claims
    for claim in claims:
        larger = {run.name for run in select(plan.runs, claim.runs)}
        n_false = sum(_holds(plan, claim, larger, np.random.default_rng(number)) for number in range(N_GRIDS))
        assert n_false <= 0.06 * N_GRIDS


def _holds(plan: Plan, claim: Expectation, larger: set[str], generator: np.random.Generator) -> bool:
    """Is the claim said to hold of divergences that vary by a third, and whose ratio is its bound?"""
    assert claim.at_least is not None
    rows: list[dict[str, Any]] = []
    for run in plan.runs:
        ratio = claim.at_least if run.name in larger else 1
        divergence = ratio * math.exp(0.3 * generator.standard_normal())
        rows.append({"run": run.name, "status": "finished", "kl_nats": divergence, "kl_over_learnable": 0.2})
    (verdict,) = judge([claim], plan.runs, rows, plan.seed_key or "")
    return verdict.word == "holds"


@pytest.mark.parametrize(
    ("name", "latents"),
    [
        ("structure", [(256,), (16,) * 2, (4,) * 4]),
        ("factors", [(256,), (16,) * 2, (4,) * 4, (2,) * 8]),
    ],
)
def test_the_published_size_has_the_published_states_and_optimizer(
    name: str, latents: list[tuple[int, ...]]
) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml"), "scale=paper"])
    configs = [run.config for run in plan.runs]
    assert all(isinstance(config, GssmConfig) for config in configs)
    states = [
        tuple(node.state_dim for node in config.data.graph.latents)
        for config in configs
        if isinstance(config, GssmConfig) and isinstance(config.data, GraphDataConfig)
    ]
    assert states == latents * 10, "ten kernel seeds of each"
    expected = {"learning_rate": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0, "clip_grad_norm": None}
    found = [config.training.optimizer.model_dump(include=set(expected)) for config in configs]
    assert found == [expected] * len(plan.runs), "Adam as it is by default, and nothing clipped"


@pytest.mark.parametrize("text", ["README.md", "config/small.yaml"])
def test_the_small_model_has_as_many_parameters_as_is_said(text: str) -> None:
    plan = read_grid([str(CONFIGS / "factors.yaml")])
    config = plan.runs[0].config
    assert isinstance(config, GssmConfig)
    n_parameters = sum(parameter.numel() for parameter in outline(config.model).parameters())
    said = re.findall(r"Q5.* a transformer of ([\d,]+) parameters", (CONFIGS.parent / text).read_text())
    assert said == [f"{round(n_parameters, -3):,}"]


@pytest.mark.parametrize("scale", SCALES)
def test_the_conditions_of_recall_ask_for_what_a_guess_among_the_values_gets(scale: str) -> None:
    plan = read_grid([str(CONFIGS / "recall.yaml"), f"scale={scale}"])
    config = plan.runs[0].config
    assert isinstance(config, GssmConfig) and isinstance(config.data, RecallDataConfig)
    values = draw(config.data, range(256)).tokens[:, 1 : 2 * config.data.n_pairs : 2]
    guess = np.mean([np.unique(row, return_counts=True)[1].max() for row in values]) / config.data.n_pairs
    given = [claim.given.at_least for claim in plan.expect if claim.given is not None]
    assert len(given) == 2 and all(0.85 * guess < (bound or 0) < guess for bound in given)
    (large,) = (claim for claim in plan.expect if "guess" in claim.claim)
    assert 2 * guess < (large.at_least or 0)


@pytest.mark.parametrize(
    ("recalls", "words"),
    [
        ((0.0, 0.06, 0.12), ("not told", "not told")),
        ((0.0, 0.5, 0.9), ("not told", "holds")),
        ((0.5, 0.9, 0.0), ("holds", "not told")),
        ((0.14, 0.5, 0.9), ("holds", "holds")),
    ],
)
def test_a_larger_state_recalls_more_where_both_do_no_worse_than_a_guess(
    recalls: tuple[float, ...], words: tuple[str, ...]
) -> None:
    plan = read_grid([str(CONFIGS / "recall.yaml")])
    of_state = dict(zip((2, 8, 32), recalls, strict=True))
    rows = [
        {"run": run.name, "status": "finished", "recall": of_state.get(run.values.get("model.d_state"), 1.0)}
        for run in plan.runs
    ]
    claims = [claim for claim in plan.expect if claim.minus]
    verdicts = judge(claims, plan.runs, rows, plan.seed_key or "data.sequence_seed")
    assert [verdict.word.partition(":")[0] for verdict in verdicts] == [*words]
