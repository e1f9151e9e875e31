"""Runs of this study that are there already: their config and their model."""

from __future__ import annotations

from pathlib import Path

import torch

from apps.composition.settings import CompositionConfig
from nanollama.config import load_config
from nanollama.errors import UserError
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import NAME, find_checkpoint, load_weights


def load_run(path: Path) -> tuple[CompositionConfig, LanguageModel, Path]:
    """Config, model in evaluation mode, and checkpoint of a run folder or of one checkpoint in it.

    Raises:
        UserError: there is no such run, or it has no intact checkpoint.
    """
    config = read_run_config(path)
    checkpoint = find_checkpoint(path)
    model = build_model(config.model, torch.Generator().manual_seed(0))
    load_weights(checkpoint, model)
    return config, model.eval(), checkpoint


def read_run_config(path: Path) -> CompositionConfig:
    """The config of a run folder, or of the run that a checkpoint belongs to.

    Raises:
        UserError: it is not the folder of a run of this study.
    """
    folder = path.parents[1] if NAME.fullmatch(path.name) and len(path.parts) > 2 else path
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{path} is not a run: there is no {folder / 'config.yaml'}; train it first.")
    return load_config(CompositionConfig, [str(folder / "config.yaml")])
