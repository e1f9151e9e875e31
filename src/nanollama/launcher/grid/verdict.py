"""The verdict on each claim of a grid; see `nanollama.launcher.grid.expect` for what a claim may say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from nanollama.launcher.grid.bounds import Bounded
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.expect import LEVEL, Expectation, Rivals, pair_runs
from nanollama.launcher.grid.values import Row, Value, compare, measure_of, number_of, row_of
from nanollama.measures import ABSENT, show_interval
from nanollama.report.aggregate import is_share, over_seeds
from nanollama.report.grouping import group_runs
from nanollama.statistics import (
    Interval,
    bootstrap_interval,
    equivalence_test,
    holm,
    mean_interval,
    ratio_interval,
    sign_flip_test,
)
from nanollama.wording import count

DIVERGED = "diverged"
ENDED = ("finished", DIVERGED)
"""Status of a result that is an outcome; a run that has failed for another reason may yet finish."""
MAX_VALUES_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """A claim beside what came out.

    Args:
        expectation: the claim.
        found: values of the measure, or its differences or ratios, in the order of the runs.
        n_expected: values there are when all runs have finished.
        given: of each value, whether its runs all fulfil the claim's condition.
        missing: runs that have finished with a measure that is no number (null); they have no value.
        n_untold: values that will never be there, as each lacks one of those.
        diverged: runs that have ended without finishing, as a loss was not finite; they have no value.
        n_diverged: values that will never be there, as each lacks one of those.
        pairs: of which values are differences or ratios: the run's name, its value, that of the other.
        together: what the seeds say together, where that is judged and told.
        p_value: where it judges the claim, adjusted for the other claims.
    """

    expectation: Expectation
    found: tuple[Value, ...]
    n_expected: int
    given: tuple[bool, ...] = ()
    missing: tuple[str, ...] = ()
    n_untold: int = 0
    diverged: tuple[str, ...] = ()
    n_diverged: int = 0
    pairs: tuple[tuple[str, Value, Value], ...] = ()
    together: Interval | None = None
    p_value: float | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers found."""
        return tuple(value.number for value in self.found)

    @property
    def n_given(self) -> int:
        """Values whose runs all fulfil the claim's condition."""
        return sum(self.given)

    @property
    def each(self) -> tuple[bool, ...]:
        """Of each value that can be told and whose condition is fulfilled, by itself: is it as claimed?"""
        values = [value for value, is_given in zip(self.found, self.given, strict=True) if is_given]
        if (margin := self.expectation.within) is not None:
            bounded = Bounded(measure=self.expectation.measure, at_most=margin)
            return tuple(bounded.holds_for(abs(value.number)) for value in values if not value.sign)
        alone = self.expectation.model_copy(update={"statistic": "each"})
        told = [value for value in values if _contradicts(alone, value) or _is_told(alone, value)]
        return tuple(not _contradicts(alone, value) for value in told)

    @property
    def _noun(self) -> str:
        return "seed" if self.expectation.is_together else "run"

    @property
    def failed(self) -> bool:
        """Has what had to come out not come out, or not been told?"""
        return not (self.word == "holds" or self.word.startswith("open"))

    @property
    def is_missed_by_diverging(self) -> bool:
        """Does a run that diverged miss the claim? One about what has been learned says nothing of it."""
        return self.n_diverged > 0 and not self.expectation.conditions and self.expectation.when is None

    @property
    def word(self) -> str:
        """The verdict itself."""
        if not self.n_diverged:
            return self._word
        missed = self._word == "MISSED" or (self.is_missed_by_diverging and not self.expectation.is_together)
        return f"{'MISSED' if missed else 'not told'}: {self.n_diverged} of {self.n_expected} diverged"

    @property
    def _word(self) -> str:
        """The verdict by the values that are there."""
        expectation, n_found = self.expectation, len(self.found)
        if self.n_given < n_found:
            return f"not told: {expectation.conditions} in {self.n_given} of {count(n_found, self._noun)}"
        if not expectation.is_together and any(_contradicts(expectation, value) for value in self.found):
            return "MISSED"
        n_told = sum(_is_told(expectation, value) for value in self.found)
        if n_told < n_found:
            return self._unbounded(n_found - n_told)
        if self.n_untold:
            lacks = f"{expectation.measure} is no number"
            if expectation.when is not None:
                lacks = f"{expectation.when.measure} {expectation.when.bound} never"
            return f"not told: {lacks} in {self.n_untold} of {self.n_expected}"
        if n_found < self.n_expected:
            return f"open: {n_found} of {self.n_expected}"
        return self._of_all() if expectation.is_together else "holds"

    def _of_all(self) -> str:
        """The verdict of all seeds together."""
        expectation, together = self.expectation, self.together
        assert together is not None
        end = together.low if expectation.at_least is not None else together.high
        judged = self.p_value if expectation.has_p_value else end
        if expectation.statistic == "mean":
            judged = together.mean
        if judged is None or math.isnan(judged):
            return "not told: the values are all the same"
        holds = judged <= LEVEL if expectation.has_p_value else expectation.holds_for(judged)
        n_bounds = sum(value.sign != "" for value in self.found)
        return "holds" if holds else self._unbounded(n_bounds) if n_bounds else "MISSED"

    def _unbounded(self, n_values: int) -> str:
        return f"not told: nothing bounds {n_values} of {count(len(self.found), 'value')}"

    @property
    def shown(self) -> str:
        """What was found, in few words."""
        if self.together is None:
            words = _show_values(self.found)
        else:
            sign = next((f"{value.sign} " for value in self.found if value.sign), "")
            words = f"{sign}{show_interval(*self.together[:3])}, {count(self.together.n, 'seed')}"
        if self.p_value is not None:
            words += f", p = {self.p_value:.2g}"
        if self.expectation.conditions:
            ended = f", {self.n_diverged} diverged" if self.n_diverged else ""
            of = count(len(self.found) + self.n_diverged, self._noun)
            words += f" (given in {self.n_given} of {of}{ended})"
        return words


def judge(
    expectations: Sequence[Expectation], runs: Sequence[GridRun], rows: Sequence[Row], seed_key: str
) -> list[Verdict]:
    """Each claim beside the measures of the finished runs.

    A run that diverged has ended as well: it has no measure, and what it is about will not be told. What
    failed for another reason may yet finish.

    Args:
        expectations: the claims.
        runs: of the grid.
        rows: of `nanollama.launcher.grid.results.collect`.
        seed_key: the key that seeds are values of.

    Raises:
        UserError: a claim is about a measure that no run has.
    """
    measured = {row["run"]: row for row in rows if row["status"] in ENDED}
    verdicts = [_judge(expectation, runs, measured, seed_key) for expectation in expectations]
    tests = [place for place, expectation in enumerate(expectations) if expectation.has_p_value]
    # A claim without a p value is one more chance for a false alarm, as large as can be.
    adjusted = holm([1.0 if (p := verdicts[place].p_value) is None else p for place in tests])
    for place, p_value in zip(tests, adjusted, strict=True):
        if verdicts[place].p_value is not None:
            verdicts[place] = replace(verdicts[place], p_value=p_value)
    return verdicts


def _judge(
    expectation: Expectation, runs: Sequence[GridRun], measured: Mapping[str, Row], seed_key: str
) -> Verdict:
    """One claim, its p value not yet adjusted."""
    pairs = pair_runs(expectation, runs, seed_key)
    found: list[Value] = []
    there: list[tuple[GridRun, ...]] = []
    compared: list[tuple[str, Value, Value]] = []
    numbers: list[float] = []
    diverged = {run.name for run in runs if measured.get(run.name, {}).get("status") == DIVERGED}
    missing: dict[str, None] = {}
    n_untold = n_diverged = 0
    for pair in pairs:
        if all(run.name in measured for run in chain(*pair)):
            values = {run.name: _value(run, measured[run.name], expectation) for run in chain(*pair)}
            lacking = [name for name, value in values.items() if value is None]
            missing |= dict.fromkeys(name for name in lacking if name not in diverged)
            best = [_best(rivals, values, expectation) for rivals in pair]
            told = [(run, value) for run in best if (value := values[run.name]) is not None]
            if any(run.name in diverged for run in best):
                n_diverged += 1
            elif len(told) < len(pair):
                n_untold += 1
            else:
                found.append(compare(expectation, *(value for _, value in told)))
                there.append(tuple(best))
                numbers += [value.number for _, value in told]
                if len(pair) > 1:
                    compared.append((best[0].name, *_sides([value for _, value in told])))
    verdict = Verdict(
        expectation,
        tuple(found),
        n_expected=len(pairs),
        given=tuple(_is_given(expectation, pair, measured) for pair in there),
        missing=tuple(missing),
        n_untold=n_untold,
        diverged=tuple(sorted(diverged & {run.name for pair in pairs for run in chain(*pair)})),
        n_diverged=n_diverged,
        pairs=tuple(compared),
    )
    is_whole = len(found) == len(pairs) and all(_is_told(expectation, value) for value in found)
    if not expectation.is_together or not is_whole:
        return verdict
    firsts = [pair[0] for pair in there]
    of_shares = expectation.reaches is None and is_share(expectation.measure, numbers)
    return replace(
        verdict,
        together=_over_seeds(verdict, [measured[run.name] for run in firsts], firsts, seed_key, of_shares),
        p_value=_p_value(expectation, verdict.values),
    )


def _value(run: GridRun, row: Row, expectation: Expectation) -> Value | None:
    return None if row["status"] == DIVERGED else measure_of(run, row, expectation)


def _sides(values: Sequence[Value]) -> tuple[Value, Value]:
    """What is compared: two values, or two differences of two."""
    if len(values) == 2:
        return values[0], values[1]
    first, other, third, fourth = (value.number for value in values)
    return Value(first - other), Value(third - fourth)


def _best(rivals: Rivals, values: Mapping[str, Value | None], expectation: Expectation) -> GridRun:
    """Of rivals the one with the largest value, or the smallest for `at_most`; without a value it is last."""
    sign = 1 if expectation.at_least is not None else -1

    def rank(run: GridRun) -> float:
        value = values[run.name]
        return -math.inf if value is None else sign * value.number

    return max(rivals, key=rank)


def _contradicts(expectation: Expectation, value: Value) -> bool:
    """Does it break the bound, whatever more there is to know of it?"""
    away = "<" if expectation.at_least is not None else ">"
    return value.sign in ("", away) and not expectation.holds_for(value.number)


def _is_told(expectation: Expectation, value: Value) -> bool:
    """Is enough known of it? Ends of an interval may move either way with a value that is a mere bound."""
    by_ends = expectation.statistic in ("interval", "bootstrap") or expectation.within is not None
    if value.sign == "" or by_ends:
        return value.sign == ""
    towards = ">" if expectation.at_least is not None else "<"
    return value.sign == towards and (expectation.is_together or expectation.holds_for(value.number))


def _is_given(expectation: Expectation, runs: Sequence[GridRun], measured: Mapping[str, Row]) -> bool:
    """Are the conditions fulfilled? Every second run, from the first one on, is under ``runs``."""
    rows = [row_of(run, measured[run.name], expectation) for run in runs]
    asked = [(expectation.given, rows), (expectation.given_of_runs, rows[::2])]
    return all(
        row is not None
        and (number := number_of(row, condition, expectation.claim)) is not None
        and condition.holds_for(number)
        for condition, of_rows in asked
        if condition is not None
        for row in of_rows
    )


def _over_seeds(
    verdict: Verdict, rows: Sequence[Row], runs: Sequence[GridRun], seed_key: str, of_shares: bool
) -> Interval | None:
    """The mean over seeds with its interval; a difference of shares is at most 1, of such differences 2."""
    expectation, values = verdict.expectation, verdict.values
    if expectation.others is None and expectation.reaches is None and expectation.when is None:
        seed_keys = (seed_key, expectation.best_over)
        (setting,) = group_runs(rows, [run.values for run in runs], seed_keys)
        return over_seeds(setting, expectation.measure)
    if expectation.over is None:
        found = bootstrap_interval(values) if expectation.statistic == "bootstrap" else mean_interval(values)
        largest = 2.0 if expectation.beyond else 1.0
        return found.within(-largest, largest) if of_shares else found
    if expectation.statistic != "bootstrap":
        return ratio_interval(values)
    mean, low, high, n_pairs = bootstrap_interval([math.log(value) for value in values])
    return Interval(math.exp(mean), math.exp(low), math.exp(high), n_pairs)


def _p_value(expectation: Expectation, values: Sequence[float]) -> float | None:
    """The p value that judges a claim, if one does and can be told."""
    if expectation.within is not None:
        p_value = equivalence_test(values, expectation.within)
        return None if math.isnan(p_value) else p_value
    if expectation.statistic != "test":
        return None
    bound, side = (expectation.at_least, 1) if expectation.at_least is not None else (expectation.at_most, -1)
    assert bound is not None
    if expectation.over is not None:
        return sign_flip_test([side * math.log(value / bound) for value in values])
    return sign_flip_test([side * (value - bound) for value in values])


def _show_values(values: Sequence[Value]) -> str:
    if len(values) <= MAX_VALUES_SHOWN:
        return ", ".join(map(str, values)) or ABSENT
    known = [value for value in values if value.sign != "?"] or list(values)
    return f"{min(known)} to {max(known)} ({len(values)} runs)"
