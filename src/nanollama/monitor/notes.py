"""What a run notes in ``environment.json``: its starts, and hashes of what it must not go on without."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanollama.errors import UserError
from nanollama.monitor.environment import describe_environment
from nanollama.monitor.files import read_text, write_atomically
from nanollama.monitor.remedies import ANEW, OTHER_FOLDER
from nanollama.monitor.successor import ENVIRONMENT
from nanollama.precision import Precision

if TYPE_CHECKING:  # looking at runs does not wait for torch
    from nanollama.distributed import World

logger = logging.getLogger(__name__)

RETRY = f"{OTHER_FOLDER}, {ANEW}"


def note_start(folder: Path, world: World) -> None:
    """Write what a run starts with; to what is noted of a run that goes on, add what it goes on with."""
    now = environment = describe_environment(world.device, world.world_size)
    if (folder / ENVIRONMENT).exists():
        environment = read_notes(folder)
        environment["resumed"] = [*environment.get("resumed", []), now]
        if environment.get("commit") != now["commit"]:
            logger.warning(
                "The run was started at commit %s and goes on at %s.",
                environment.get("commit"),
                now["commit"],
            )
    _write(folder, environment)


def note_hashes(folder: Path, world: World, key: str, hashes: Mapping[str, str], subject: str) -> None:
    """Note hashes by name; those of a run that goes on must be what they were.

    Args:
        folder: of the run.
        world: the processes of the run, all of which call this.
        key: under which they are noted.
        hashes: by name.
        subject: what they are of, with a place for the name of one.

    Raises:
        UserError: one is another one than was noted.
    """
    environment = read_notes(folder)
    before = environment.get(key, dict(hashes))
    changed = [name for name in sorted({*before, *hashes}) if before.get(name) != hashes.get(name)]
    if changed:
        raise UserError(
            f"{subject.format(changed[0])} is not what the run {folder} was started with: "
            f"restore it, {RETRY}."
        )
    world.wait()
    if world.is_main:
        _write(folder, {**environment, key: dict(hashes)})


def check_noted(folder: Path, key: str, what: str) -> None:
    """Refuse to go on with a run that did not note, as older ones do not, what its rows must all share.

    Raises:
        UserError: there is no such note.
    """
    environment = read_notes(folder)
    if key not in environment:
        commit = environment.get("commit")
        code = f"go on with the code that began it (commit {commit}), " if commit else ""
        raise UserError(
            f"The run {folder} has evaluations, but did not note {what}, so that later ones may not compare "
            f"with them: {code}{RETRY}."
        )


def note_precision(folder: Path, precision: Precision) -> None:
    """Note the format of matrix products: ``auto`` may choose another one where the run goes on."""
    environment = read_notes(folder)
    before = environment.get("precision", [])
    if before and before[-1] != precision:
        logger.warning("The run computed in %s and goes on in %s.", before[-1], precision)
    if before[-1:] != [precision]:
        _write(folder, {**environment, "precision": [*before, precision]})


def read_notes(folder: Path) -> dict[str, Any]:
    """All that a run has noted.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / ENVIRONMENT
    try:
        environment = json.loads(read_text(path) or "")
    except ValueError:
        environment = None
    if not isinstance(environment, dict):
        raise UserError(f"{path} is not a JSON object: the file is damaged, restore it, {RETRY}.")
    return environment


def _write(folder: Path, environment: Mapping[str, Any]) -> None:
    write_atomically(folder / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
