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

A claim holds if it holds in every run meant, so with every seed. With ``minus`` it is about differences: of
each run under ``runs`` and that of the same seed under ``minus``, which are runs of one setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from nanollama.config import Config
from nanollama.errors import UserError
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.grid.expand import GridRun, matches
from nanollama.monitor.files import write_atomically
from nanollama.report.grouping import group_runs
from nanollama.report.tables import Table
from nanollama.wording import count, shorten, show, suggest

EXPECT = "expect"
VERDICT = "verdict"
MAX_VALUES_SHOWN = 5

Row = Mapping[str, Any]


class Expectation(Config):
    """One claim."""

    claim: str = Field(min_length=1, description="What is claimed, in words.")
    runs: dict[str, Any] = Field(
        default={},
        description="Runs meant: dotted keys of their configs, or arm, with a value or a list of any.",
    )
    minus: dict[str, Any] | None = Field(
        default=None, description="Runs whose measure is subtracted, seed by seed."
    )
    measure: str = Field(description="Name of a number of the final evaluation.")
    at_least: float | None = Field(default=None, description="Every value must be this or more.")
    at_most: float | None = Field(default=None, description="Every value must be this or less.")

    @model_validator(mode="after")
    def _check(self) -> Expectation:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"the claim '{self.claim}' needs one of at_least and at_most")
        return self

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"

    def holds_for(self, value: float) -> bool:
        """Is a value within the bound?"""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


@dataclass(frozen=True)
class Verdict:
    """A claim beside what came out.

    Args:
        expectation: the claim.
        values: of the measure, or its differences, in the order of the runs.
        n_expected: values there are when all runs have finished.
        missing: runs that have finished with a measure that is no number (null); they have no value.
    """

    expectation: Expectation
    values: tuple[float, ...]
    n_expected: int
    missing: tuple[str, ...] = ()

    @property
    def missed(self) -> bool:
        """Is some value out of bounds?"""
        return not all(map(self.expectation.holds_for, self.values))

    @property
    def word(self) -> str:
        """The verdict itself."""
        if self.missed:
            return "MISSED"
        n_there = len(self.values)
        return "holds" if n_there == self.n_expected else f"open: {n_there} of {self.n_expected}"


def check_expectations(expectations: Sequence[Expectation], runs: Sequence[GridRun], seed_key: str) -> None:
    """Refuse claims about runs that are not in the grid.

    Raises:
        UserError: naming the claim.
    """
    for expectation in expectations:
        for key, chosen in (("runs", expectation.runs), ("minus", expectation.minus)):
            if chosen is not None and not _select(runs, chosen):
                raise UserError(
                    f"expect: the claim '{expectation.claim}' is about no run of the grid: "
                    f"none has {key} = {show(chosen)}."
                )
        if expectation.minus is not None:
            _pairs(expectation, runs, seed_key)


def judge(
    expectations: Sequence[Expectation], runs: Sequence[GridRun], rows: Sequence[Row], seed_key: str
) -> list[Verdict]:
    """Each claim beside the measures of the finished runs.

    Args:
        expectations: the claims.
        runs: of the grid.
        rows: of `nanollama.launcher.grid.results.collect`.
        seed_key: the key that seeds are values of.

    Raises:
        UserError: a claim is about a measure that no run has.
    """
    measured = {row["run"]: row for row in rows if row["status"] == "finished"}
    verdicts = []
    for expectation in expectations:
        chosen = [(run,) for run in _select(runs, expectation.runs)]
        pairs = chosen if expectation.minus is None else _pairs(expectation, runs, seed_key)
        values: list[float] = []
        missing: dict[str, None] = {}
        for pair in pairs:
            if all(run.name in measured for run in pair):
                found = [_value(measured[run.name], expectation) for run in pair]
                numbers = [value for value in found if value is not None]
                missing |= {run.name: None for run, value in zip(pair, found, strict=True) if value is None}
                if len(numbers) == len(pair):
                    values.append(numbers[0] - sum(numbers[1:]))
        verdicts.append(Verdict(expectation, tuple(values), len(pairs), tuple(missing)))
    return verdicts


def missing_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """One sentence for each claim of which a finished run has no value."""
    for verdict in verdicts:
        if verdict.missing:
            yield (
                f"The claim '{verdict.expectation.claim}' is judged without "
                f"{count(len(verdict.missing), 'run')}, such as {verdict.missing[0]}: finished, but "
                f"{verdict.expectation.measure} is no number there (null)."
            )


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a claim."""
    rows = [
        (
            verdict.expectation.claim,
            verdict.expectation.measure + (" (difference)" if verdict.expectation.minus is not None else ""),
            verdict.expectation.bound,
            _show_values(verdict.values),
            verdict.word,
        )
        for verdict in verdicts
    ]
    caption = "What had to come out, in every run meant; thresholds as the config states them."
    return Table(caption, ("claim", "measure", "expected", "found", "verdict"), tuple(rows))


def write_verdicts(folder: Any, verdicts: Sequence[Verdict]) -> None:
    """Write ``verdict.md`` and ``verdict.json`` into the folder of a grid."""
    write_atomically(folder / f"{VERDICT}.md", verdict_table(verdicts).to_markdown())
    listed = [
        {
            **verdict.expectation.model_dump(exclude_none=True),
            "values": verdict.values,
            "n_expected": verdict.n_expected,
            "missing": verdict.missing,
            "verdict": verdict.word,
        }
        for verdict in verdicts
    ]
    write_atomically(folder / f"{VERDICT}.json", json.dumps(listed, indent=2) + "\n")


def _select(runs: Sequence[GridRun], wanted: Mapping[str, Any]) -> list[GridRun]:
    chosen = []
    for run in runs:
        tree = run.config.model_dump(mode="json")
        if ARM in run.values:  # is no key of a config
            tree[ARM] = run.values[ARM]
        values = {key: _at(tree, key) for key in wanted}
        if matches(values, wanted):
            chosen.append(run)
    return chosen


def _at(tree: Any, key: str) -> Any:
    """The value at a dotted key, through sections and lists; None where there is none."""
    for part in key.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)] if part.isdecimal() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _pairs(expectation: Expectation, runs: Sequence[GridRun], seed_key: str) -> list[tuple[GridRun, GridRun]]:
    """Each run meant with the one of the same seed that is subtracted."""
    assert expectation.minus is not None
    others = _select(runs, expectation.minus)
    settings = group_runs(others, [run.values for run in others], (seed_key,))
    if len(settings) > 1:
        raise UserError(
            f"expect: the claim '{expectation.claim}' subtracts runs of one setting, but "
            f"{show(expectation.minus)} names {len(settings)}: "
            f"{shorten('; '.join(setting.label for setting in settings))}."
        )
    subtracted = {run.values.get(seed_key): run for run in others}
    pairs = []
    for run in _select(runs, expectation.runs):
        seed = run.values.get(seed_key)
        if seed not in subtracted:
            raise UserError(
                f"expect: the claim '{expectation.claim}' subtracts one run a seed, but "
                f"{show(expectation.minus)} names none with {seed_key} = {show(seed)}."
            )
        pairs.append((run, subtracted[seed]))
    return pairs


def _value(row: Row, expectation: Expectation) -> float | None:
    value = row.get(expectation.measure)
    if value is None and expectation.measure in row:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        known = [name for name, number in row.items() if isinstance(number, float)]
        raise UserError(
            f"expect: the claim '{expectation.claim}' is about '{expectation.measure}', which the run "
            f"{row['run']} did not measure{suggest(expectation.measure, known) or '.'}"
        )
    return float(value)


def _show_values(values: Sequence[float]) -> str:
    if len(values) <= MAX_VALUES_SHOWN:
        return ", ".join(map(_show_value, values)) or "-"
    return f"{_show_value(min(values))} to {_show_value(max(values))} ({len(values)} runs)"


def _show_value(value: float) -> str:
    """Three decimals; the size of what would round to nothing."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 5e-4 else f"{value:.0e}"
