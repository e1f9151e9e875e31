"""Small runs of the memory study, without its training entry: a config, a model, a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from apps.memory.dataset.dialogs import Dialog, DialogKind, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_tokenizer
from nanollama.config import config_hash, dump_config
from nanollama.data.batch import collate
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import FOLDER, Checkpointer
from nanollama.training.loss import next_token_loss

TOKENIZER = build_tokenizer()


def toy_config(folder: Path, kind: DialogKind = "qatool", **changes: Any) -> MemoryConfig:
    """A run on two people; its folder is ``<folder>/run``, its data in ``<folder>/data``."""
    tree = {
        "study": "memory",
        "name": "run",
        "run_dir": str(folder / "run"),
        "data_root": str(folder / "data"),
        "data": {"n_people": 2, "sources": [{"kind": kind}]},
        "model": {"implementation": "transformer", "d_model": 32, "n_layers": 2, "n_heads": 2},
        "training": {"n_steps": 100, "batch_size": 8, "device": "cpu"},
        "recall": {"n_people": 2},
    }  # fmt: skip
    return MemoryConfig.model_validate({**tree, **changes})


def learned_dialogs(config: MemoryConfig) -> list[Dialog]:
    """All dialogs that a run learns from."""
    kind: DialogKind = "qatool" if config.data.uses_tool else "qa"
    return [
        make_dialog(person, attribute, kind, config.data.language)
        for person in people(0, config.data.n_people)
        for attribute in ATTRIBUTES
    ]


def toy_model(config: MemoryConfig, n_steps: int = 0) -> LanguageModel:
    """The run's model after so many steps on all its dialogs at once."""
    model = build_model(config.model, torch.Generator().manual_seed(0))
    encoded = [TOKENIZER.encode_dialog(dialog.messages) for dialog in learned_dialogs(config)]
    batch = collate([dialog.ids for dialog in encoded], [dialog.loss_mask for dialog in encoded])
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (next_token_loss(model, batch) / batch.n_loss_tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def write_run(config: MemoryConfig, model: LanguageModel, step: int = 100) -> Path:
    """A run folder with a checkpoint; returns it."""
    folder = config.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(config))
    optimizer = torch.optim.AdamW(model.parameters())
    Checkpointer(folder / FOLDER, config_hash(config)).save(step, model, optimizer, {})
    return folder
