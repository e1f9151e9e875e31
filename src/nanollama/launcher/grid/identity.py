"""What a grid trains and what it claims, each as a hash that is the same on every machine.

Values that are the defaults count for nothing, so that a key which a later version adds changes no hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
