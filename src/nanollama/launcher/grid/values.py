"""What a finished run, or a pair of them, says of a claim; see `nanollama.launcher.grid.expect`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from nanollama.errors import UserError
from nanollama.launcher.grid.bounds import Bounded
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.expect import Expectation
from nanollama.measures import ABSENT, is_number, show_interval
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.wording import suggest

Row = Mapping[str, Any]


class Value(NamedTuple):
    """What a run, or a pair of them, says of a claim.

    Args:
        number: itself, or a bound.
        sign: nothing; ``>``, ``<``: it is larger or smaller, which side a run that never reaches a value
            leaves open; ``?``: nothing is known.
    """

    number: float
    sign: str = ""

    def __str__(self) -> str:
        return ABSENT if self.sign == "?" else f"{self.sign} {show_interval(self.number)}".strip()


def measure_of(run: GridRun, row: Row, expectation: Expectation) -> Value | None:
    """What a run says; None for a measure that is there without a number."""
    judged = row_of(run, row, expectation)
    number = number_of(row, expectation, expectation.claim)  # which every run has to have, whenever it learns
    if judged is not row:
        number = None if judged is None else number_of(judged, expectation, expectation.claim)
    if expectation.reaches is None:
        return None if number is None else Value(number)
    evals = RowFile(run.folder / EVALS).read()
    if evals and not any(expectation.measure in at for at in evals):
        raise UserError(
            f"expect: the claim '{expectation.claim}' asks when {expectation.measure} reaches "
            f"{expectation.reaches:g}, but no evaluation of the run {run.name} measured it: name a measure "
            "that its evals.jsonl has."
        )
    for at in evals:
        if is_number(at.get(expectation.measure)) and at[expectation.measure] >= expectation.reaches:
            return Value(float(at["step"]))
    return Value(float(evals[-1]["step"]), ">") if evals else None


def row_of(run: GridRun, row: Row, expectation: Expectation) -> Row | None:
    """Of a run the row by which it is judged: the last one, or the first evaluation at which ``when`` holds.

    None where there is no such evaluation.
    """
    if (when := expectation.when) is None:
        return row
    for at in RowFile(run.folder / EVALS).read():
        if is_number(at.get(when.measure)) and when.holds_for(at[when.measure]):
            return {"run": run.name, **at}
    return None


def compare(expectation: Expectation, first: Value, *others: Value) -> Value:
    """The value of a run, its difference from another, or its ratio to it."""
    if not others:
        return first
    if expectation.beyond is not None:
        other, *elsewhere = others
        change = first.number - other.number - (elsewhere[0].number - elsewhere[1].number)
        return Value(change)
    (other,) = others
    signs = {first.sign, {"": "", ">": "<"}[other.sign]} - {""}
    sign = "?" if len(signs) > 1 else "".join(signs)
    if expectation.over is None:
        return Value(first.number - other.number, sign)
    if first.number <= 0 or other.number <= 0:
        return Value(math.nan, "?")
    return Value(first.number / other.number, sign)


def number_of(row: Row, about: Bounded, claim: str) -> float | None:
    """A measure of a row; None where it is no number.

    Raises:
        UserError: the row has no such measure.
    """
    value = row.get(about.measure)
    if value is None and about.measure in row:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        known = [name for name, number in row.items() if isinstance(number, float)]
        raise UserError(
            f"expect: the claim '{claim}' is about '{about.measure}', which the run "
            f"{row['run']} did not measure{suggest(about.measure, known) or '.'}"
        )
    return None if math.isnan(value) else float(value)
