"""What a grid trains and what it claims, each as a hash that is the same on every machine.

Values that are the defaults count for nothing in `runs_hash` and `claims_hash`, so that a key which a later
version adds changes no hash. `values_hash` holds the defaults of the keys that there were, too: one of them
that a later version changes makes it another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanollama.config import Config
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan

N_DIGITS = 12
NAMING = ("name", "run_dir", "overwrite")
WATCHING = ("device", "checkpoint", "log_every")
"""Keys of any section that say where a model is trained and what is kept of that, not which model."""


def runs_hash(plan: Plan) -> str:
    """Of the configs of all runs and of those that they come after, in any order and wherever they lie."""
    own = {name: _text(_of_run(run)) for name, run in plan.by_name.items()}
    return _hash(sorted(_text([own[name], *map(own.get, run.after)]) for name, run in plan.by_name.items()))


def claims_hash(plan: Plan) -> str:
    """Of all that is said in claims: which runs they are about, compared with which, under what condition.

    That a claim was changed is said of it, and not what it says.
    """
    return _hash(
        [claim.model_dump(mode="json", exclude_defaults=True, exclude={"changed"}) for claim in plan.expect]
    )


def known_keys(plan: Plan) -> list[str]:
    """All keys of the configs of the runs, those of lists without their numbers."""
    return sorted({leaf.key for run in plan.by_name.values() for leaf in _leaves(run)})


def values_hash(plan: Plan, keys: Collection[str]) -> str | None:
    """`runs_hash` of all values of some keys, and of those of other keys that are not the default.

    Args:
        plan: the grid.
        keys: `known_keys`, perhaps of an earlier version; None comes of it where one is not there any more.
    """
    known, leaves = set(keys), {name: [*_leaves(run)] for name, run in plan.by_name.items()}
    if known - {leaf.key for of_run in leaves.values() for leaf in of_run}:
        return None
    own = {
        name: _text({leaf.place: leaf.value for leaf in of_run if leaf.key in known or not leaf.is_default})
        for name, of_run in leaves.items()
    }
    return _hash(sorted(_text([own[name], *map(own.get, run.after)]) for name, run in plan.by_name.items()))


class _Leaf(NamedTuple):
    """A value of a config: the name of its key, that with numbers of lists, itself, whether by default."""

    key: str
    place: str
    value: Any
    is_default: bool


def _leaves(run: GridRun) -> Iterator[_Leaf]:
    for leaf in _leaves_of(run.config, _Leaf("", "", None, False)):
        if leaf.key not in NAMING:
            yield leaf


def _leaves_of(value: Any, above: _Leaf) -> Iterator[_Leaf]:
    """The values below one; a folder, or none, is no value."""
    if isinstance(value, Config):
        for name, field in type(value).model_fields.items():
            part = getattr(value, name)
            if name not in WATCHING:
                is_default = above.is_default or part == field.get_default(call_default_factory=True)
                key, place = (f"{here}.{name}".lstrip(".") for here in (above.key, above.place))
                yield from _leaves_of(part, _Leaf(key, place, None, is_default))
    elif isinstance(value, list | tuple) and any(isinstance(part, Config) for part in value):
        for number, part in enumerate(value):
            yield from _leaves_of(
                part, _Leaf(f"{above.key}.*", f"{above.place}.{number}", None, above.is_default)
            )
    else:
        is_place = isinstance(value, Path)
        yield above._replace(
            value=None if is_place else _plain(value), is_default=is_place or above.is_default
        )


def _of_run(run: GridRun) -> Any:
    plain = _plain(run.config)
    return {key: value for key, value in plain.items() if key not in NAMING}


def _plain(value: Any) -> Any:
    """Without defaults and folders; of the files of a list, their names."""
    if isinstance(value, Config):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, dict):
        return {
            key: _plain(part)
            for key, part in value.items()
            if key not in WATCHING and not isinstance(part, Path)
        }
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.name if isinstance(value, Path) else value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _hash(value: Sequence[Any]) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()[:N_DIGITS]
