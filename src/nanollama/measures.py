"""Measures by name: which of them are the headlines, and how their values are said."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

ABSENT = "-"
LOW, HIGH = "_low", "_high"
"""What the ends of a measure's interval are called, after its name."""
FACTS = ("status", "decided", "step", "seconds", "n_params", "config_hash")
"""What a row of the results of a grid tells of a run, beside its measures."""
TAKEN = frozenset({*FACTS, "loss", "evaluated_at_step", "run", "commit", "arm"})
"""Names that no measure of an evaluator may have; ``loss`` is that of training."""
BELOW_ZERO = "below what guessing has"
"""Said of negative bits: what was learned is worse than the distribution of the values."""
_RANGE = re.compile(r"(.+)/([a-z]+)s_(\d+)_(\d+)")


def is_number(value: object) -> TypeGuard[float]:
    """Is it a finite number, also as a float?"""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits
        return False


def finite(value: Any) -> Any:
    """The same for JSON, which has no word for numbers that are not finite: they become None, also inside."""
    if isinstance(value, Mapping):
        return {finite(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def headline_names(names: Sequence[str]) -> list[str]:
    """The measures to compare models by: those with an interval, without their details and refinements.

    Names with slashes are details. Beside ``recall``, ``recall_birth_date`` is a refinement. Where nothing
    has an interval, all others are taken; where all are details, these.
    """
    known = set(names)
    plain = [name for name in names if "/" not in name] or names
    measured = [name for name in plain if {name + LOW, name + HIGH} <= known] or plain
    return [name for name in measured if not any(name.startswith(f"{other}_") for other in measured)]


def say_measures(measures: Mapping[str, Any], n_most: int = 8) -> list[str]:
    """The headlines, one line each with its interval; of those without intervals, the first so many.

    Beside those with intervals, what is in nats is said too: a loss may have none. A last line counts the
    lines left out.
    """
    known = {name: value for name, value in measures.items() if is_number(value)}
    names = headline_names(list(known))
    if have_ends := any(name + LOW in known for name in names):
        in_nats = [name for name in known if name.endswith("_nats") and "/" not in name]
        names = [name for name in known if name in {*names, *in_nats}]
    shown = names if have_ends else names[:n_most]
    width = max((len(spell(name)) for name in shown), default=0)
    lines = [f"{spell(name):<{width}}  {show_measure(known, name)}" for name in shown]
    return lines + ([f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else [])


def plain_names(measures: Mapping[str, Any]) -> list[str]:
    """Names of all measures but details, whose names have slashes, and the ends of intervals."""
    ends = {name + end for name in measures for end in (LOW, HIGH)}
    return [name for name in measures if "/" not in name and name not in ends]


def say_all(measures: Mapping[str, Any]) -> list[str]:
    """Every measure that is no detail, one line each, with its interval if it has one."""
    names = plain_names(measures)
    width = max((len(spell(name)) for name in names), default=0)
    return [f"{spell(name):<{width}}  {show_measure(measures, name)}" for name in names]


def show_number(value: Any) -> str:
    """A number for a table: whole ones with commas, others to four digits; absent ones as a dash."""
    if not is_number(value):
        return ABSENT
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def show_interval(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A value with its interval in brackets, if it has one: three decimals, unless it is large or tiny."""
    plain = value == 0 or 5e-4 <= abs(value) < 1000
    words = [f"{number:.3f}" if plain else show_number(number) for number in (value, low, high)]
    return words[0] if math.isnan(low) else f"{words[0]} [{words[1]}, {words[2]}]"


def show_measure(measures: Mapping[str, Any], name: str) -> str:
    """A measure with its interval, where it has one: rows have null for an end that is not a number."""
    value, low, high = (measures.get(key) for key in (name, name + LOW, name + HIGH))
    if is_number(value) and is_number(low) and is_number(high):
        return show_interval(value, low, high)
    is_below = name.startswith("bits_per_") and is_number(value) and value < 0
    return show_number(value) + (f" ({BELOW_ZERO})" if is_below else "")


def spell(name: str) -> str:
    """A key as words; units at the end of a key go into brackets. A row's bare ``loss`` is of training.

    A range, as in ``kl_nats/positions_4_7``, is said as one: "kl (nats), positions 4 to 7".
    """
    name = name.replace("valid_calls", "valid_requests")  # the older name, in rows of runs
    if name == "loss":
        return "training loss (nats)"
    if found := _RANGE.fullmatch(name):
        whole, what, first, last = found.groups()
        places = f"{what} {first}" if first == last else f"{what}s {first} to {last}"
        return f"{spell(whole)}, {places}"
    for unit in ("nats", "bits", "seconds"):
        if name.endswith(f"_{unit}"):
            return f"{name.removesuffix(f'_{unit}').replace('_', ' ')} ({unit})"
    return name.replace("_", " ")
