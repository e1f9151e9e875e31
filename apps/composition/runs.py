"""Runs of this study that are there already: their config and their model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from apps.composition.data import n_learned_from
from apps.composition.data_config import DataConfig
from apps.composition.settings import CompositionConfig
from nanollama.config import load_config
from nanollama.errors import UserError
from nanollama.intervention_config import LoadConfig
from nanollama.model import build_model
from nanollama.model.transformer import Transformer
from nanollama.monitor.checkpoint import NAME, find_checkpoint, load_weights


def load_run(path: Path) -> tuple[CompositionConfig, Transformer, Path]:
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


def check_unlearned(config: CompositionConfig) -> None:
    """The weights that a run starts from must not have learned what it is tested on.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, learned from some of its test.
    """
    for path, data in _loaded(config, set()):
        check_apart(config.data, data, f"The run {path}")


def check_apart(tested: DataConfig, learned: DataConfig, learner: str) -> None:
    """Refuse to test on sequences that `learner` learns from.

    Raises:
        UserError: there are some.
    """
    n = n_learned_from(tested, learned)
    if n:
        raise UserError(
            f"{learner} learns from {n} of the sequences to test on: give both the same data.seed, "
            "data.n_train and data.n_test, or other problem tokens."
        )


def _loaded(config: CompositionConfig, known: set[Path]) -> Iterator[tuple[Path, DataConfig]]:
    """Runs whose weights have gone into a run, and what they read; each folder once."""
    for intervention in config.interventions:
        # A folder that is gone was loaded before the run was stopped, or is refused when it is due.
        if not isinstance(intervention, LoadConfig) or not intervention.run.is_dir():
            continue
        if intervention.run.resolve() not in known:
            known.add(intervention.run.resolve())
            source = read_run_config(intervention.run)
            yield intervention.run, source.data
            yield from _loaded(source, known)
