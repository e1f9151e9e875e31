"""For how many seeds a claim holds: the success rate that three seeds do not tell."""

from __future__ import annotations

from collections.abc import Sequence

from nanollama.launcher.grid.results import Row
from nanollama.launcher.grid.verdict import Verdict, judge
from nanollama.launcher.plan import Plan
from nanollama.measures import ABSENT
from nanollama.statistics import exact_ends


def held_by_seed(plan: Plan, rows: Sequence[Row]) -> list[list[bool]]:
    """Of each claim: does it hold for each seed of the grid of which that can be told?"""
    by_seed = [_holds_for(plan, rows, seed) for seed in plan.seeds]
    if not by_seed:
        return [[] for _ in plan.expect]
    return [[told for told in claim if told is not None] for claim in zip(*by_seed, strict=True)]


def _holds_for(plan: Plan, rows: Sequence[Row], seed: int) -> list[bool | None]:
    """Of each claim: does it hold in all runs of a seed that it is about? None where that is not told."""
    key = plan.seed_key or ""
    runs = [run for run in plan.runs if run.values.get(key) == seed]
    alone = [claim.model_copy(update={"statistic": "each"}) for claim in plan.expect]
    verdicts = judge(alone, runs, rows, key)
    return [_holds(verdict) for verdict in verdicts]


def _holds(verdict: Verdict) -> bool | None:
    """Does a claim hold in all its runs of a seed? A seed of which it has no run tells nothing of it."""
    if not all(verdict.each):
        return False
    return True if len(verdict.each) == verdict.n_expected > 0 else None


def success_rate(held: Sequence[bool]) -> str:
    """``17 of 20 [0.621, 0.968]``: seeds as claimed, of those told, with the exact interval of the share."""
    n_told, n_held = len(held), sum(held)
    if n_told == 0:
        return ABSENT
    low, high = exact_ends(n_held / n_told, n_told)
    return f"{n_held} of {n_told} [{low:.3f}, {high:.3f}]"
