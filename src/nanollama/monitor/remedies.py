"""What a user may do about a run folder that cannot be had."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from nanollama.config import Config, RunConfig

ANEW = "or start anew with overwrite=true"
OTHER_FOLDER = "choose another run_dir"


def elsewhere(folder: Path, config: Config) -> str:
    """Words for another folder: another name, where that of the run comes from its name."""
    if not isinstance(config, RunConfig) or config.run_dir is not None or folder != config.folder:
        return OTHER_FOLDER
    names = (f"{config.name}_{number}" for number in count(2))
    free = next(name for name in names if not (folder.parent / name).exists())
    return f"choose another name, such as name={free}"
