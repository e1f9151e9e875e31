"""A trained model of the study, back from its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from apps.memory.settings import MemoryConfig
from nanollama.config import load_config
from nanollama.distributed import choose_device
from nanollama.errors import UserError
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import MODEL, find_checkpoint, load_weights, read_manifest
from nanollama.monitor.run_folder import CONFIG

CONFIGS_FOLDER = Path("apps/memory/config")


class Trained(NamedTuple):
    """A model as a checkpoint holds it.

    Args:
        folder: of its run.
        config: of its run, with the keys that were config.
        model: on the device asked for.
        step: optimizer steps it was trained for.
        weights_sha256: of the file with its weights.
    """

    folder: Path
    config: MemoryConfig
    model: LanguageModel
    step: int
    weights_sha256: str


def load_trained(path: Path, keys: Sequence[str] = ()) -> Trained:
    """The model of a run's newest intact checkpoint, or of the checkpoint named.

    Args:
        path: folder of a run, or of one of its checkpoints.
        keys: ``key=value`` for keys that shall be other than the run's, such as ``training.device=cpu``.

    Raises:
        UserError: there is no such run, or no checkpoint that is intact and of this model.
    """
    folder = path.parent.parent if checkpoint.NAME.fullmatch(path.name) else path
    _check_folder(folder)
    config = load_config(MemoryConfig, [str(folder / CONFIG), *keys])
    if not any((folder / checkpoint.FOLDER).glob("step_*")):
        raise UserError(f"{folder} holds no checkpoint yet: train it first, {_train_command(folder)}.")
    found = find_checkpoint(path)
    manifest = read_manifest(found)
    # The weights come from the checkpoint; a generator is needed only to build the model around them.
    model = build_model(config.model, torch.Generator().manual_seed(0))
    try:
        load_weights(found, model)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip(" .\t")
        raise UserError(f"{found} does not fit the model of {folder / CONFIG}: {reason}.") from error
    model.to(choose_device(config.training.device)).eval()
    return Trained(folder, config, model, int(manifest["step"]), manifest["files"][MODEL]["sha256"])


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}: train it first, {_train_command(folder)}.")
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not a run folder: it holds no {CONFIG}; expected the folder of a run, such as "
            "runs/debug, or of one of its checkpoints."
        )


def _train_command(folder: Path) -> str:
    """The command that trains the run of a folder, as far as the study's configs tell by their names."""
    for path in sorted(CONFIGS_FOLDER.glob("*.yaml")):
        if path.stem in (folder.name, f"config_{folder.name}"):
            return f"`python -m apps.memory.train {path}`"
    return f"`python -m apps.memory.train CONFIG run_dir={folder}`"
