"""For how many seeds a claim holds: the success rate that three seeds do not tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nanollama.launcher.grid.results import Row
from nanollama.launcher.grid.verdict import Verdict, judge
from nanollama.launcher.plan import Plan
from nanollama.measures import ABSENT
from nanollama.statistics import exact_ends


@dataclass(frozen=True)
class Success:
    """Seeds of a grid for which a claim holds.

    Args:
        held: of each seed of which it is told, does it hold?
        n_diverged: seeds of which a run diverged, so that the claim does not hold for them or is not told.
        n_diverged_untold: those of them of which it is not told, as it is about what has been learned.
        n_untold: other seeds of which it will not be told, whose runs have ended.
        n_open: seeds of which it is not told yet, as runs have not ended.
    """

    held: Sequence[bool] = ()
    n_diverged: int = 0
    n_diverged_untold: int = 0
    n_untold: int = 0
    n_open: int = 0

    def __str__(self) -> str:
        """``17 of 20 [0.621, 0.968], 2 diverged``: of those told, with the exact interval of the share.

        Of which it is not told is said beside it, as in ``5 of 5 [0.478, 1.000], 5 diverged (not told)``.
        """
        return ", ".join([self._share, *self._others])

    @property
    def _share(self) -> str:
        n_told, n_held = len(self.held), sum(self.held)
        if n_told == 0:
            return ABSENT
        low, high = exact_ends(n_held / n_told, n_told)
        return f"{n_held} of {n_told} [{low:.3f}, {high:.3f}]"

    @property
    def _others(self) -> Iterator[str]:
        if self.n_diverged:
            some = "" if self.n_diverged_untold == self.n_diverged else f"{self.n_diverged_untold} "
            yield f"{self.n_diverged} diverged" + (f" ({some}not told)" if self.n_diverged_untold else "")
        if self.n_untold:
            yield f"{self.n_untold} not told"
        if self.n_open:
            yield f"{self.n_open} open"


def held_by_seed(plan: Plan, rows: Sequence[Row]) -> list[Success]:
    """Of each claim: for which seeds of the grid does it hold?"""
    by_seed = [_of_seed(plan, rows, seed) for seed in plan.seeds]
    if not by_seed:
        return [Success() for _ in plan.expect]
    return [_success(verdicts) for verdicts in zip(*by_seed, strict=True)]


def _of_seed(plan: Plan, rows: Sequence[Row], seed: int) -> list[Verdict]:
    """On each claim, by each of the runs of a seed."""
    key = plan.seed_key or ""
    runs = [run for run in plan.runs if run.values.get(key) == seed]
    alone = [claim.model_copy(update={"statistic": "each"}) for claim in plan.expect]
    return judge(alone, runs, rows, key)


def _success(verdicts: Sequence[Verdict]) -> Success:
    """On a claim, from the verdicts of its seeds; one of which it has no run counts for nothing."""
    found = [(verdict, _holds(verdict)) for verdict in verdicts if verdict.n_expected]
    diverged = [held for verdict, held in found if verdict.n_diverged]
    words = [verdict.word for verdict, held in found if held is None and not verdict.n_diverged]
    n_open = sum(word.startswith("open") for word in words)
    return Success(
        held=[held for _, held in found if held is not None],
        n_diverged=len(diverged),
        n_diverged_untold=diverged.count(None),
        n_untold=len(words) - n_open,
        n_open=n_open,
    )


def _holds(verdict: Verdict) -> bool | None:
    """Does a claim hold in all its runs of a seed? None where that is not told."""
    if verdict.is_missed_by_diverging or not all(verdict.each):
        return False
    return True if len(verdict.each) == verdict.n_expected else None
