"""A run of any study, as exchange needs it: its model, and what encodes text for it."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from nanollama.config import Config
from nanollama.config.source import read_source
from nanollama.data.text.tokens import load_tokenizer
from nanollama.monitor.successor import CONFIG, TOKENIZER
from nanollama.studies import STUDY_KEY, find_study, study_of
from nanollama.training.run_config import TrainingRunConfig
from nanollama.training.trained import Trained, load_run, run_folder_of

IMPORTED = "imported"
"""Instead of a study: what a run is that was imported without a config of one."""


def open_trained(path: Path, device: str = "cpu") -> tuple[Trained[Any], Any]:
    """A run's model, and its tokenizer.

    Args:
        path: folder of a run, or of one of its checkpoints.
        device: where the model shall be.

    Returns:
        the model, and a `nanollama.tokenizer.ByteTokenizer`, a `tokenizers.Tokenizer`, a
        `nanollama.pretrained_tokenizer.PretrainedTokenizer`, or None where tokens are numbers.

    Raises:
        UserError: there is no such run, or its study, data or tokenizer cannot be read.
    """
    folder = run_folder_of(path)
    source = str(folder / CONFIG)
    config_class: type[Config] = TrainingRunConfig
    tokenizer = ""
    if read_source([source]).plain().get(STUDY_KEY) != IMPORTED:
        study = find_study(study_of([source]))
        config_class, tokenizer = study.configs["train"], study.tokenizer
    assert issubclass(config_class, TrainingRunConfig)
    trained = load_run(config_class, path, [f"training.device={device}"])
    if tokenizer:
        return trained, resolve_name(tokenizer)(trained.config)
    kept = folder / TOKENIZER
    return trained, load_tokenizer(kept) if kept.is_file() else None
