"""What has to come out of a grid: its config says so before anything runs, and the results are judged by it.

The section ``expect`` is a list of claims about a measure of the final evaluation in some of the runs::

    expect:
      - claim: two layers learn
        runs: {model.n_layers: 2}
        measure: test_accuracy
        at_least: 0.95
      - claim: one layer is worse
        runs: {model.n_layers: 2}
        minus: {model.n_layers: 1}
        measure: test_accuracy
        at_least: 0.5
      - claim: with a source the target is learned in a third of the steps
        runs: {arm: scratch}
        over: {arm: transfer}
        measure: test_accuracy
        reaches: 0.9
        at_least: 3
        statistic: mean

``minus`` makes it about differences: of each run under ``runs`` and that of the same seed under ``minus``,
which are runs of one setting. So does ``over`` for ratios of measures above 0, whose means are geometric.
``reaches`` puts in the place of a measure the first step at which it is as large; a run that never is gives a
bound, and what is not bounded on the side that is claimed is not told.

By default a claim holds if it holds in every run meant. Other values of ``statistic`` are about seeds of one
setting: ``mean``; ``interval``, the end of the 95 % interval; ``bootstrap``, that of a studentised bootstrap;
``test``, the sign-flip test of pairs. ``within: m`` claims that a difference does not matter: its 90 %
interval lies between -m and m. Claims that a p value judges are adjusted for each other.

``best_over: training.optimizer.learning_rate`` is for keys that are swept to find what suits each setting: of
runs that differ in this key alone, the one with the largest measure stands for all under ``at_least``, the
one with the smallest under ``at_most``; on both sides of a difference or ratio alike. It is chosen seed by
seed on the measure that is judged, which flatters it a little: the more values and the larger their spread.

``when: {measure: recall, at_least: 0.95}`` takes the measure from the first evaluation at which that is so,
to compare runs that have learned alike rather than taken as many steps; where it never is so, nothing is
told. ``beyond: {data.n_people: 100}`` is for a difference that grows: subtracted from it is the same
difference between runs in which these keys are other than under ``runs`` and ``minus``.

``given: {measure: ..., at_least: ...}`` is about what has been learned: where it is not so in each run that
the claim compares, on either side, the claim is not told, as the loss of what was never learned says nothing.
``given_of_runs`` is the same of those under ``runs`` alone, for what only they are to learn. With ``when``,
both are asked at the evaluation that it chooses.

``changed: "2026-11-27, after the results: why"`` says that a claim is not as it was before anything ran; that
is told wherever its verdict is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, Literal

from pydantic import Field, model_validator

from nanollama.errors import UserError
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.grid.bounds import Bounded, Condition
from nanollama.launcher.grid.chosen import NOWHERE, value_at
from nanollama.launcher.grid.exclude import matches
from nanollama.launcher.grid.expand import GridRun
from nanollama.report.grouping import group_runs, show_value
from nanollama.wording import count, shorten, show, suggest

LEVEL = 0.05


class Expectation(Bounded):
    """One claim."""

    claim: str = Field(min_length=1, description="What is claimed, in words.")
    runs: dict[str, Any] = Field(
        default={},
        description="Runs meant: dotted keys of their configs, or arm, with a value or a list of any.",
    )
    minus: dict[str, Any] | None = Field(
        default=None, description="Runs whose measure is subtracted, seed by seed."
    )
    over: dict[str, Any] | None = Field(
        default=None, description="Runs by whose measure is divided, seed by seed."
    )
    reaches: float | None = Field(
        default=None, description="Judge the first step at which the measure is this or more."
    )
    within: float | None = Field(
        default=None, gt=0, description="The mean difference lies between this and its negative."
    )
    when: Condition | None = Field(
        default=None, description="Judge the measure at the first evaluation at which this is so."
    )
    beyond: dict[str, Any] | None = Field(
        default=None,
        description="Keys that are other in the runs whose difference is subtracted from this one.",
    )
    best_over: str | None = Field(
        default=None,
        description="A key: of runs that differ in it alone, only the one with the largest measure counts, "
        "under at_most the one with the smallest.",
    )
    statistic: Literal["each", "mean", "interval", "bootstrap", "test"] = Field(
        default="each", description="What is held to the bound: each value, or what seeds say together."
    )
    given: Condition | None = Field(
        default=None, description="What must be so in each run, on either side, for anything to be told."
    )
    given_of_runs: Condition | None = Field(
        default=None, description="As given, of the runs under runs, not of those they are compared with."
    )
    changed: str | None = Field(
        default=None, min_length=1, description="When and why the claim was changed after results were known."
    )

    @model_validator(mode="after")
    def _check(self) -> Expectation:
        n_bounds = sum(bound is not None for bound in (self.at_least, self.at_most, self.within))
        if n_bounds != 1:
            raise ValueError(f"the claim '{self.claim}' needs one of at_least, at_most and within")
        if self.best_over is not None and self.reaches is not None:
            raise ValueError(f"the claim '{self.claim}': best_over does not go with reaches")
        if self.best_over is not None and self.within is not None:
            raise ValueError(
                f"the claim '{self.claim}': best_over needs at_least or at_most, which say what is best"
            )
        if self.when is not None and self.reaches is not None:
            raise ValueError(f"the claim '{self.claim}' has both when and reaches: keep one")
        if self.beyond is not None and (self.minus is None or self.best_over or self.reaches is not None):
            raise ValueError(
                f"the claim '{self.claim}': beyond goes with minus, and without best_over and reaches"
            )
        if self.given_of_runs is not None and self.others is None:
            raise ValueError(f"the claim '{self.claim}': given_of_runs needs minus or over; else say given")
        if self.minus is not None and self.over is not None:
            raise ValueError(f"the claim '{self.claim}' has both minus and over: keep one")
        if self.within is not None and (self.minus is None or self.statistic != "each"):
            raise ValueError(f"the claim '{self.claim}': within goes with minus and without statistic")
        if self.statistic in ("bootstrap", "test") and self.others is None:
            raise ValueError(f"the claim '{self.claim}': statistic {self.statistic} needs minus or over")
        if self.over is not None and (self.at_least or self.at_most or 0.0) <= 0:
            raise ValueError(f"the claim '{self.claim}': a ratio is above 0, so its bound must be, too")
        return self

    @property
    def elsewhere(self) -> Expectation:
        """The same difference between the runs that ``beyond`` names."""
        assert self.minus is not None and self.beyond is not None
        chosen = {"runs": {**self.runs, **self.beyond}, "minus": {**self.minus, **self.beyond}}
        return self.model_copy(update={**chosen, "beyond": None})

    @property
    def others(self) -> Mapping[str, Any] | None:
        """Those that the runs are compared with."""
        return self.minus if self.over is None else self.over

    @property
    def conditions(self) -> str:
        """In words, what has to be so for anything to be told; empty where nothing has."""
        told = [(self.given, ""), (self.given_of_runs, " of those under runs")]
        return " and ".join(f"{each.measure} {each.bound}{whose}" for each, whose in told if each is not None)

    @property
    def is_together(self) -> bool:
        """Do the seeds say together whether it holds?"""
        return self.statistic != "each" or self.within is not None

    @property
    def has_p_value(self) -> bool:
        """Does a p value judge it?"""
        return self.statistic == "test" or self.within is not None

    @property
    def bound(self) -> str:
        """The bound in words, with what is held to it."""
        if self.within is not None:
            return f"within {self.within:g}"
        return f"{super().bound}{f' ({self.statistic})' if self.is_together else ''}"

    @property
    def subject(self) -> str:
        """What is measured, in words."""
        measure = self.measure if self.reaches is None else f"steps to {self.measure} {self.reaches:g}"
        if self.when is not None:
            measure += f" at {self.when.measure} {self.when.bound}"
        kind = "ratio" if self.over is not None else "difference" if self.minus is not None else ""
        if self.beyond is not None:
            kind += f", beyond that at {', '.join(f'{key} {value}' for key, value in self.beyond.items())}"
        return f"{measure} ({kind})" if kind else measure


def check_expectations(expectations: Sequence[Expectation], runs: Sequence[GridRun], seed_key: str) -> None:
    """Refuse claims about runs that are not in the grid, and those that no outcome could decide.

    Raises:
        UserError: naming the claim.
    """
    n_tests = sum(expectation.has_p_value for expectation in expectations)
    for expectation in expectations:
        _check_chosen(expectation, runs)
        if expectation.beyond is not None:
            _check_chosen(expectation.elsewhere, runs)
        _check_best_over(expectation, runs, seed_key)
        pairs = pair_runs(expectation, runs, seed_key)
        for run in chain(*chain(*pairs)) if expectation.reaches is not None else ():
            _check_reaches(expectation, run)
        if expectation.is_together:
            _check_one_setting(expectation, "is about", expectation.runs, runs, seed_key)
            _check_number(expectation, len(pairs), n_tests)


def _check_chosen(expectation: Expectation, runs: Sequence[GridRun]) -> None:
    """Refuse a claim about runs that are not in the grid."""
    for key in ("runs", "minus", "over"):
        chosen = getattr(expectation, key)
        if chosen is not None:
            _check_choice(f"the claim '{expectation.claim}' chooses {key}", chosen, runs)
            if not select(runs, chosen):
                raise UserError(
                    f"expect: the claim '{expectation.claim}' is about no run of the grid: "
                    f"none has {key} = {show(chosen)}."
                )


def check_measures(
    expectations: Sequence[Expectation], measured: Sequence[str], others: Sequence[str]
) -> None:
    """Refuse claims about what no run will have measured.

    Args:
        expectations: the claims.
        measured: patterns of the names of all measures, see `nanollama.studies.Study`; none: not known.
        others: names of the numbers that a row has beside them.

    Raises:
        UserError: naming the claim.
    """
    for expectation in expectations if measured else ():
        for about in (
            expectation,
            expectation.given,
            expectation.given_of_runs,
            expectation.when,
        ):
            if about is None or any(fnmatchcase(about.measure, name) for name in (*measured, *others)):
                continue
            known = [name.strip("*/") for name in (*measured, *others)]
            hint = suggest(about.measure, known) or f" (known: {shorten(', '.join(filter(None, known)))})."
            raise UserError(
                f"expect: the claim '{expectation.claim}' is about '{about.measure}', which no run of this "
                f"study measures{hint}"
            )


Rivals = tuple[GridRun, ...]
"""Runs of which the best counts; without ``best_over`` one run."""


def pair_runs(expectation: Expectation, runs: Sequence[GridRun], seed_key: str) -> list[tuple[Rivals, ...]]:
    """The runs meant, each with the one of the same seed that it is compared with, if there are such.

    With ``beyond``, the two of the difference that is subtracted come after them.
    """
    if expectation.beyond is not None:
        return _pair_differences(expectation, runs, seed_key)
    chosen = _rivals(select(runs, expectation.runs), expectation.best_over)
    if expectation.others is None:
        return [(rivals,) for rivals in chosen]
    verb = "subtracts" if expectation.over is None else "divides by"
    _check_one_setting(expectation, verb, expectation.others, runs, seed_key)
    compared = _rivals(select(runs, expectation.others), expectation.best_over)
    by_seed = {rivals[0].values.get(seed_key): rivals for rivals in compared}
    for rivals in chosen:
        if (seed := rivals[0].values.get(seed_key)) not in by_seed:
            raise UserError(
                f"expect: the claim '{expectation.claim}' {verb} one run a seed, but "
                f"{show(expectation.others)} names none with {seed_key} = {show(seed)}."
            )
    return [(rivals, by_seed[rivals[0].values.get(seed_key)]) for rivals in chosen]


def _pair_differences(
    expectation: Expectation, runs: Sequence[GridRun], seed_key: str
) -> list[tuple[Rivals, ...]]:
    """The two runs of each difference, and of the same seed the two of that which is subtracted."""
    elsewhere = expectation.elsewhere
    _check_one_setting(expectation, "subtracts", elsewhere.runs, runs, seed_key)
    others = {pair[0][0].values.get(seed_key): pair for pair in pair_runs(elsewhere, runs, seed_key)}
    joined = []
    for pair in pair_runs(expectation.model_copy(update={"beyond": None}), runs, seed_key):
        if (seed := pair[0][0].values.get(seed_key)) not in others:
            raise UserError(
                f"expect: the claim '{expectation.claim}' subtracts a difference a seed, but "
                f"{show(elsewhere.runs)} names none with {seed_key} = {show(seed)}."
            )
        joined.append(pair + others[seed])
    return joined


def _rivals(runs: Sequence[GridRun], best_over: str | None) -> list[Rivals]:
    """Runs that differ in this key alone, together."""
    if best_over is None:
        return [(run,) for run in runs]
    return [setting.runs for setting in group_runs(runs, [run.values for run in runs], (best_over,))]


def select(runs: Sequence[GridRun], wanted: Mapping[str, Any]) -> list[GridRun]:
    """The runs that have each key's value, or any of a list of them."""
    return [run for run in runs if matches({key: value_at(run, key) for key in wanted}, wanted)]


def _check_choice(what: str, wanted: Mapping[str, Any], runs: Sequence[GridRun]) -> None:
    """Refuse keys that no run has, and values of which one is none of the key's: others would hide that."""
    for key, value in wanted.items():
        known = {show_value(had): None for run in runs if (had := value_at(run, key)) is not NOWHERE}
        if not known:
            from nanollama.report.aggregate import flatten

            hint = suggest(key, [ARM, *flatten(runs[0].config.model_dump(mode="json"))])
            raise UserError(f"expect: {what} by '{key}', which no run of the grid has{hint or '.'}")
        entries = value if isinstance(value, list) and show_value(value) not in known else [value]
        for entry in entries:
            if show_value(entry) not in known:
                hint = suggest(show_value(entry), known) or "."
                raise UserError(
                    f"expect: {what} by {key} = {show(entry)}, but in the grid it is "
                    f"{shorten(' or '.join(known))}{hint}"
                )


def _check_one_setting(
    expectation: Expectation, verb: str, wanted: Mapping[str, Any], runs: Sequence[GridRun], seed_key: str
) -> None:
    chosen = select(runs, wanted)
    settings = group_runs(chosen, [run.values for run in chosen], (seed_key, expectation.best_over))
    if len(settings) > 1:
        raise UserError(
            f"expect: the claim '{expectation.claim}' {verb} runs of one setting, but "
            f"{show(wanted)} names {len(settings)}: "
            f"{shorten('; '.join(setting.label for setting in settings))}."
        )


def _check_best_over(expectation: Expectation, runs: Sequence[GridRun], seed_key: str) -> None:
    """Refuse a key that leaves nothing to choose from, and that of seeds, whose best is luck."""
    key = expectation.best_over
    if key is None:
        return
    where = f"expect: the claim '{expectation.claim}' takes the best over '{key}'"
    if key == seed_key:
        raise UserError(f"{where}, the key of the seeds: the best of them is luck; leave best_over out.")
    varied = dict.fromkeys(key for run in runs for key in run.values)
    if len({show_value(run.values.get(key)) for run in runs}) < 2:
        raise UserError(f"{where}, which does not vary in the grid{suggest(key, varied) or '.'}")
    if all(len(rivals) == 1 for rivals in _rivals(runs, key)):
        raise UserError(f"{where}, but no two runs differ in it alone: let it vary in grid.product.")


def _check_reaches(expectation: Expectation, run: GridRun) -> None:
    """Refuse a run that does not tell when a measure is reached, or stops before."""
    training, least = run.training, expectation.reaches
    if training is None or least is None:
        return
    problem = None
    if training.eval_every is None:
        problem = "training.eval_every, which says how finely steps are told, is not set"
    elif training.stop_when and training.stop_when.measures.get(expectation.measure, least) < least:
        problem = f"training.stop_when stops it at a smaller {expectation.measure}"
    if problem:
        raise UserError(
            f"expect: the claim '{expectation.claim}' asks when {expectation.measure} reaches {least:g}, but "
            f"in the run {run.name} {problem}."
        )


def _check_number(expectation: Expectation, n_values: int, n_tests: int) -> None:
    """Refuse claims that so few seeds cannot decide, whatever comes out."""
    from nanollama.statistics import MIN_BOOTSTRAP

    least = {"mean": 1, "bootstrap": MIN_BOOTSTRAP}.get(expectation.statistic, 2)
    if expectation.statistic == "test":
        while n_tests / 2**least > LEVEL:
            least += 1
    if n_values < least:
        judged = "within" if expectation.within is not None else f"statistic: {expectation.statistic}"
        beside = (
            f" beside {count(n_tests - 1, 'other test')}" if expectation.has_p_value and n_tests > 1 else ""
        )
        raise UserError(
            f"expect: the claim '{expectation.claim}' ({judged}) has {count(n_values, 'seed')}, and needs at "
            f"least {least}{beside} to be told: add seeds, or judge it by its mean."
        )
