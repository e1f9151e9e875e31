"""Checkpoints: a folder a step, complete or absent, whose content is proved by hashes.

A checkpoint is written under a temporary name, its manifest last, forced to disk, and renamed into place. A
folder named ``step_<8 digits>`` is therefore complete unless it was damaged later, and damage is found when
it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nanollama.errors import UserError
from nanollama.monitor.files import (
    naming_faults_of_disk,
    remove_whole,
    sync_file,
    sync_folder,
    write_atomically,
)
from nanollama.wording import printable, show

if TYPE_CHECKING:  # finding checkpoints does not wait for torch
    from torch import nn

logger = logging.getLogger(__name__)

MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.pt", "state.json", "manifest.json"
NAMES = (MODEL, OPTIMIZER, STATE)
"""What a manifest lists: no checkpoint ever had others, also where it was saved without an optimizer."""
FOLDER = "checkpoints"  # inside a run folder
VERSION = 1
NAME = re.compile(r"step_(\d{8})")
LEFTOVER = re.compile(r"\.step_\d{8}\.(new|old)")


class Stateful(Protocol):
    """An optimizer, or what stands for one whose state is spread over processes."""

    def state_dict(self) -> dict[str, Any]:
        """Its state: tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        ...


class NoOptimizer:
    """In the place of the optimizer of a model that was not trained here, or that another engine trains."""

    def state_dict(self) -> dict[str, Any]:
        """No parameters, so nothing about them."""
        return {"state": {}, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """There is nothing to go on with."""


class DamagedCheckpoint(Exception):
    """A checkpoint whose files are not those its manifest lists; the message says which and how."""


class Checkpointer:
    """Saves and finds the checkpoints of one run.

    Args:
        folder: holds the checkpoints; made on the first save.
        config_hash: of the run they belong to; empty to accept those of any.
    """

    def __init__(self, folder: Path, config_hash: str = "") -> None:
        self.folder = folder
        self.config_hash = config_hash

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: Stateful,
        state: Mapping[str, Any],
        keep: int | None = None,
    ) -> Path:
        """Write the checkpoint of a step, then remove the oldest beyond ``keep`` (``None`` keeps all).

        Args:
            step: optimizer steps done.
            model: saved with tied tensors once.
            optimizer: saved with `torch.save`, tensors and plain values only.
            state: what else the loop needs to go on, as JSON.
            keep: how many checkpoints to have at most, at least 1.
        """
        import torch
        from safetensors.torch import save_model

        final = self.path(step)
        new, old = (self.folder / f".{final.name}.{suffix}" for suffix in ("new", "old"))
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_whole(new)
        new.mkdir()
        with naming_faults_of_disk(new):
            save_model(model, str(new / MODEL))
            torch.save(optimizer.state_dict(), new / OPTIMIZER)
        (new / STATE).write_text(json.dumps(state), encoding="utf-8")
        for name in NAMES:
            sync_file(new / name)
        manifest = {
            "version": VERSION,
            "step": step,
            "config_hash": self.config_hash,
            "files": {name: fingerprint(new / name) for name in NAMES},
        }
        write_atomically(new / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        if final.exists():  # a damaged one that was skipped, and whose step has come again
            _discard(final, old)
        os.rename(new, final)
        sync_folder(self.folder)
        if keep is not None:
            self._prune(step, keep)
        return final

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, intact or not, in order."""
        if not self.folder.is_dir():
            return []
        names = (NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def latest(self) -> int | None:
        """Step of the newest intact checkpoint; each damaged one on the way to it is named in a warning."""
        for step in reversed(self.steps()):
            try:
                self.verify(self.path(step))
            except DamagedCheckpoint as damage:
                logger.warning("Skipped the checkpoint %s: %s", printable(str(self.path(step))), damage)
            else:
                return step
        return None

    def path(self, step: int) -> Path:
        """Folder of the checkpoint of a step."""
        return self.folder / f"step_{step:08d}"

    def verify(self, path: Path) -> None:
        """Check that a checkpoint is complete, unchanged and of this run.

        Raises:
            DamagedCheckpoint: it is not.
        """
        manifest = read_manifest(path)
        if self.config_hash not in ("", manifest["config_hash"]):
            raise DamagedCheckpoint("it belongs to another config.")

    def clean(self) -> None:
        """Remove what a process that was killed while saving left behind."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if LEFTOVER.fullmatch(path.name):
                    remove_whole(path)

    def _prune(self, step: int, keep: int) -> None:
        for older in [other for other in self.steps() if other <= step][:-keep]:
            path = self.path(older)
            _discard(path, self.folder / f".{path.name}.old")


def find_checkpoint(path: Path) -> Path:
    """The checkpoint a user means: the folder of one, or the newest intact one of a run folder.

    Raises:
        UserError: there is none, or the one named is damaged.
    """
    if NAME.fullmatch(path.name):
        if not path.is_dir() and path.parent.is_dir():
            there = ", ".join(str(step) for step in Checkpointer(path.parent).steps())
            raise UserError(f"There is no checkpoint {path}: the run has those of steps {there or 'none'}.")
        try:
            read_manifest(path)
        except DamagedCheckpoint as damage:
            raise UserError(f"The checkpoint {path} is damaged: {damage} Choose another step.") from damage
        return path
    checkpoints = Checkpointer(path / FOLDER)
    newest = checkpoints.latest()
    if newest is None:
        raise UserError(
            f"{path} holds no intact checkpoint: expected a run folder with {FOLDER}/step_<8 digits>/."
        )
    return checkpoints.path(newest)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as it says.

    Raises:
        DamagedCheckpoint: a file is missing, truncated or changed, or there is no manifest.
    """
    manifest = _parse_manifest(path / MANIFEST)
    for name, expected in manifest["files"].items():
        if not (path / name).is_file():
            raise DamagedCheckpoint(f"{name} is missing.")
        found = fingerprint(path / name)
        if found["n_bytes"] != expected["n_bytes"]:
            raise DamagedCheckpoint(
                f"{name} has {found['n_bytes']} bytes, expected {show(expected['n_bytes'])}."
            )
        if found["sha256"] != expected["sha256"]:
            raise DamagedCheckpoint(f"the content of {name} has changed (SHA-256 differs).")
    return manifest


def _parse_manifest(path: Path) -> dict[str, Any]:
    """A manifest that lists what it is to list, and nothing elsewhere on the disk.

    Raises:
        DamagedCheckpoint: it does not, or cannot be read.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, files, _ = manifest["version"], manifest["files"], manifest["config_hash"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(f"its {MANIFEST} cannot be read ({error}).") from error
    if version != VERSION:
        raise DamagedCheckpoint(f"it has format version {show(version)}, this program reads {VERSION}.")
    if (
        not isinstance(files, dict)
        or files.keys() != set(NAMES)
        or not all(isinstance(file, dict) and {"n_bytes", "sha256"} <= file.keys() for file in files.values())
        or not isinstance(manifest.get("step"), int)
    ):
        raise DamagedCheckpoint(
            f"its {MANIFEST} is none: expected the step, and size and hash of {', '.join(NAMES)}."
        )
    return dict(manifest)


def load_weights(path: Path, model: nn.Module) -> None:
    """Read a checkpoint's weights into a model of the same shape."""
    from safetensors.torch import load_model

    load_model(model, str(path / MODEL))


def load_training(path: Path, optimizer: Stateful) -> dict[str, Any]:
    """Read a checkpoint's optimizer; returns the state that it was saved with.

    Raises:
        UserError: it was saved without an optimizer.
    """
    saved = read_optimizer(path)
    if saved is not None:
        optimizer.load_state_dict(saved)
    elif not isinstance(optimizer, NoOptimizer):
        raise UserError(
            f"{path} was saved without an optimizer, so its run cannot be gone on with: load its weights "
            "into a run of another folder, by an intervention `load`."
        )
    return json.loads((path / STATE).read_text(encoding="utf-8"))


def read_optimizer(path: Path) -> dict[str, Any] | None:
    """The state of a checkpoint's optimizer, None where it was saved without one."""
    import torch

    saved = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
    return saved if any(group["params"] for group in saved.get("param_groups", [])) else None


def fingerprint(path: Path) -> dict[str, Any]:
    """Hash and size of a file, as a manifest lists them."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "n_bytes": path.stat().st_size}


def _discard(path: Path, trash: Path) -> None:
    """Remove a checkpoint; it stops being one at once, however long the removal takes."""
    remove_whole(trash)
    os.rename(path, trash)
    remove_whole(trash)
