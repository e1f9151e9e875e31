"""The config of a run that lies in another folder than the one it names: the run was copied or renamed.

Trained as it is, it would go on with the original, or replace it, and not with the run beside it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nanollama.config.arguments import split_arguments
from nanollama.errors import ConfigError

RUN_CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
PLACES = ("run_dir=", "name=")
"""Keys that say where a run is to be; given with the config, it is a template."""


def check_place(argv: Sequence[str], folder: Path) -> None:
    """Refuse to train by the config of a run in another folder than that run's, unless that is asked for.

    Args:
        argv: ``[config=]PATH [key=value ...]``, as for `nanollama.config.load_config`.
        folder: in which the run would be.

    Raises:
        ConfigError: naming both folders, and what to add.
    """
    path, overrides = split_arguments(argv)
    beside, name = os.path.split(os.path.expanduser(path))
    beside = beside or os.curdir
    if name != RUN_CONFIG or any(key.startswith(PLACES) for key in overrides):
        return
    if not os.path.isfile(os.path.join(beside, ENVIRONMENT)):  # no run has written it
        return
    if os.path.realpath(beside) != os.path.realpath(folder):
        raise ConfigError(
            f"{path}: is the config of the run in {beside}, but would train in {folder}: add "
            f"run_dir={beside} to go on with that run, or name=NAME for another one."
        )
