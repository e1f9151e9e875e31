"""Runs that were never trained, for tests of the explorer: a config, models by step, a run folder."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apps.composition.circuit import build_handmade
from apps.composition.data_config import DataConfig
from apps.composition.settings import CompositionConfig
from apps.composition.tasks import Parity
from nanollama.config import config_hash, dump_config
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import FOLDER, Checkpointer
from nanollama.training.run_config import TrainingRunConfig

EVIL = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
MAX_LENGTH = 4


def write_run(config: TrainingRunConfig, models: Mapping[int, LanguageModel]) -> Path:
    """A run folder with a checkpoint of each step; returns it."""
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "config.yaml").write_text(dump_config(config))
    for step, model in models.items():
        optimizer = torch.optim.SGD(model.parameters())
        Checkpointer(config.folder / FOLDER, config_hash(config)).save(step, model, optimizer, {})
    return config.folder


def write_random_run(config: TrainingRunConfig) -> Path:
    """The same of one model, with random weights."""
    return write_run(config, {2: build_model(config.model, torch.Generator().manual_seed(0))})


def write_handmade_run(folder: Path) -> Path:
    """A run that begins at random and ends as the iteration head that is built by hand, for parity."""
    task = Parity(implementation="parity", problem_token=32)
    data = DataConfig(tasks=(task,), max_length=MAX_LENGTH, n_train=None, n_test=16)
    handmade = build_handmade(task, data.tokens, MAX_LENGTH)
    config = CompositionConfig.model_validate(
        {
            "study": "composition",
            "name": "handmade",
            "run_dir": folder,
            "data": data,
            "model": handmade.config,
            "training": {"n_steps": 100, "device": "cpu"},
        }
    )
    at_first = build_model(config.model, torch.Generator().manual_seed(0))
    return write_run(config, {0: at_first, 50: at_first, 100: handmade})


def data_of(page: Path) -> dict[str, Any]:
    """What the script of a page reads."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert len(found) == 1
    data: dict[str, Any] = json.loads(found[0])
    return data


def numbers_of(text: str) -> np.ndarray:
    """Bytes as shares."""
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).astype(float) / 255
