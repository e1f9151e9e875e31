"""The values by which claims choose the runs of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanollama.config import Config
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.grid.expand import GridRun

NOWHERE = object()
"""In the place of a value where a config has no such key."""


def value_at(run: GridRun, key: str) -> Any:
    """The value at a dotted key of a run's config, through sections and lists; or `NOWHERE`."""
    if key == ARM:
        return run.values.get(ARM, NOWHERE)
    value: Any = run.config
    for part in key.split("."):
        if isinstance(value, Config):
            value = getattr(value, part) if part in type(value).model_fields else NOWHERE
        elif isinstance(value, Mapping):
            value = value.get(part, NOWHERE)
        elif isinstance(value, tuple | list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return NOWHERE
    return value if value is NOWHERE else _as_written(value)


def _as_written(value: Any) -> Any:
    """A value of a config as its file says it."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _as_written(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_as_written(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
