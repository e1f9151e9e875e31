"""For how many seeds a claim holds: of those alone that it has runs of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanollama.launcher.grid.success import held_by_seed
from nanollama.launcher.plan import read_grid
from nanollama.monitor.run_folder import EVALS

GRID = """\
study: memory
data: {n_people: 32, sources: [{kind: qa}]}
model: {implementation: transformer, d_model: 32, n_layers: 2, n_heads: 2}
training: {n_steps: 10, eval_every: 5}
grid:
  product: {model.d_model: [16, 32]}
  seeds: [0, 1, 2]
  exclude: [{training.seed: [1, 2], model.d_model: 16}]
expect:
- {claim: narrow ones learn, runs: {model.d_model: 16}, measure: recall_trained, at_least: 0.5}
- claim: with seed 0 width helps
  runs: {model.d_model: 32, training.seed: 0}
  minus: {model.d_model: 16}
  measure: recall_trained
  at_least: 0.1
- {claim: wide ones learn, runs: {model.d_model: 32}, measure: recall_trained, at_least: 0.5}
"""


@pytest.mark.parametrize(
    ("narrow", "rates"),
    [
        (0.7, ["1 of 1 [0.025, 1.000]", "1 of 1 [0.025, 1.000]", "3 of 3 [0.292, 1.000]"]),
        (0.1, ["0 of 1 [0.000, 0.975]", "1 of 1 [0.025, 1.000]", "3 of 3 [0.292, 1.000]"]),
        (None, ["-, 1 open", "-, 1 open", "3 of 3 [0.292, 1.000]"]),
    ],
)
def test_a_seed_without_runs_of_a_claim_counts_for_nothing(
    tmp_path: Path, narrow: float | None, rates: list[str]
) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    plan = read_grid([str(path)])
    found: dict[int, float | None] = {16: narrow, 32: 0.9}
    rows: list[dict[str, Any]] = [
        {"run": run.name, "status": "finished", "recall_trained": recall}
        for run in plan.runs
        if (recall := found[run.values["model.d_model"]]) is not None
    ]
    assert [str(held) for held in held_by_seed(plan, rows)] == rates


def test_a_seed_whose_run_diverged_counts_as_one_for_which_the_claim_does_not_hold(tmp_path: Path) -> None:
    """Of a claim about what has been learned nothing is told of it, and a run that may yet finish is open."""
    path = tmp_path / "grid.yaml"
    learned = "{claim: they learn, measure: recall_trained, at_least: 0.5}"
    given = learned.replace("}", ", given: {measure: recall_unseen, at_least: 0.9}}")
    seeds = GRID.split("grid:")[0] + f"grid: {{seeds: 6}}\nexpect: [{learned}, {given}]\n"
    path.write_text(seeds)
    plan = read_grid([str(path)])
    ended = ["finished", "finished", "diverged", "diverged", "preempted"]  # the last one was killed
    rows: list[dict[str, Any]] = [
        {"run": run.name, "status": status, "recall_trained": 0.7, "recall_unseen": 0.95}
        for run, status in zip(plan.runs, ended, strict=False)
    ]
    assert [str(held) for held in held_by_seed(plan, rows)] == [
        "2 of 4 [0.068, 0.932], 2 diverged, 2 open",
        "2 of 2 [0.158, 1.000], 2 diverged (not told), 2 open",
    ]


CLAIM = "{claim: they learn, measure: recall_trained, MORE}"
LEARN = "at_least: 0.5"
GIVEN = f"{LEARN}, given: {{measure: recall_unseen, at_least: 0.9}}"
WHEN = GIVEN.replace("given", "when")
OF_WIDE = ", runs: {model.d_model: 32}, minus: {model.d_model: 16}"


@pytest.mark.parametrize(
    ("more", "ended", "rate"),
    [
        (LEARN, "ffdddd", "1 of 3 [0.008, 0.906], 2 diverged"),
        (GIVEN, "dddddd", "-, 3 diverged (not told)"),
        (GIVEN, "ffdfff", "2 of 2 [0.158, 1.000], 1 diverged (not told)"),
        (GIVEN, "ffdlff", "2 of 3 [0.094, 0.992], 1 diverged"),  # what there is of the seed contradicts it
        (GIVEN, "dfdlff", "1 of 2 [0.013, 0.987], 2 diverged (1 not told)"),
        (GIVEN, "ffuudf", "1 of 1 [0.025, 1.000], 1 diverged (not told), 1 not told"),
        (GIVEN + OF_WIDE, "fhdhfh", "2 of 2 [0.158, 1.000], 1 diverged (not told)"),
        (LEARN + OF_WIDE, "fhdhfh", "2 of 3 [0.094, 0.992], 1 diverged"),
        (GIVEN, "ffff", "2 of 2 [0.158, 1.000], 1 open"),
        (WHEN, "dddddd", "-, 3 diverged (not told)"),
        ("within: 0.6" + OF_WIDE, "fffhlf", "3 of 3 [0.292, 1.000]"),  # 1.3 - 0.7 is more by rounding alone
        ("within: 0.5" + OF_WIDE, "fffhhf", "1 of 3 [0.008, 0.906]"),  # in whichever direction
        ("within: 0.5" + OF_WIDE, "fffhdf", "1 of 3 [0.008, 0.906], 1 diverged"),
    ],
)
def test_seeds_of_which_nothing_is_told_are_named(tmp_path: Path, more: str, ended: str, rate: str) -> None:
    """Of two runs a seed: d diverged; f learned 0.7, l 0.1, h 1.3; u has not learned what is given."""
    path = tmp_path / "grid.yaml"
    claim = CLAIM.replace("MORE", more)
    grid = "grid: {product: {model.d_model: [16, 32]}, seeds: 3}"
    path.write_text(f"{GRID.split('grid:')[0]}{grid}\nexpect: [{claim}]\n")
    plan = read_grid([str(path)])
    rows: list[dict[str, Any]] = [
        {
            "run": run.name,
            "status": "diverged" if how == "d" else "finished",
            "recall_trained": {"l": 0.1, "h": 1.3}.get(how, 0.7),
            "recall_unseen": 0.1 if how == "u" else 0.95,
        }
        for run, how in zip(plan.runs, ended, strict=False)
    ]
    assert [str(held) for held in held_by_seed(plan, rows)] == [rate]


def test_runs_that_both_never_get_there_are_not_alike(tmp_path: Path) -> None:
    """How many steps they would take is not known; runs that take 5 and 10 are further apart than 3."""
    path = tmp_path / "grid.yaml"
    claim = CLAIM.replace("MORE", f"reaches: 0.9, within: 3{OF_WIDE}")
    grid = "grid: {product: {model.d_model: [16, 32]}, seeds: 3}"
    path.write_text(f"run_dir: {tmp_path / 'runs'}\n{GRID.split('grid:')[0]}{grid}\nexpect: [{claim}]\n")
    plan = read_grid([str(path)])
    curves = [[0.9, 0.9], [0.9, 0.9], [0.1, 0.2], [0.1, 0.2], [0.1, 0.9], [0.9, 0.9]]  # at steps 5 and 10
    for run, curve in zip(plan.runs, curves, strict=True):
        run.folder.mkdir(parents=True)
        lines = [json.dumps({"step": 5 * n, "recall_trained": value}) for n, value in enumerate(curve, 1)]
        (run.folder / EVALS).write_text("\n".join(lines) + "\n")
    rows = [{"run": run.name, "status": "finished", "recall_trained": 0.9} for run in plan.runs]
    assert [str(held) for held in held_by_seed(plan, rows)] == ["1 of 2 [0.013, 0.987], 1 not told"]
