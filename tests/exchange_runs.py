"""Runs to be exported: weights are drawn, biases and norms too, and written as training writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from toy_dialogs import TOKENIZER

from apps.memory.settings import MemoryConfig
from nanollama.config import dump_config
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.model.shell import Shell
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.training.run_config import TrainingRunConfig

LLAMA = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 4, "d_model": 16, "rope_theta": 500.0}
GPT2 = {"n_heads": 2, "d_model": 16, "norm": "layer", "positions": "learned", "bias": True, "d_ff": 24}
MAMBA2 = {
    "implementation": "mamba2",
    "d_model": 16,
    "head_dim": 8,
    "d_state": 8,
    "mlp": "none",
    "chunk_size": 16,
}


def memory_config(model: dict[str, Any], untied_at: int | None = None) -> MemoryConfig:
    """A run of the memory study."""
    untie = [] if untied_at is None else [{"implementation": "untie", "at_step": untied_at}]
    return MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "drawn",
            "data": {"n_people": 2, "sources": [{"kind": "qa"}]},
            "recall": {"sets": ["trained"]},
            "model": model,
            "training": {"n_steps": 9, "device": "cpu"},
            "interventions": untie,
        }
    )


def write_run(folder: Path, *, untied_at: int | None = None, **model: Any) -> Shell:
    """A run of the memory study; its model."""
    sizes = {"vocab_size": TOKENIZER.vocab_size, "n_layers": 2, "max_seq_len": 48}
    built = write_model(folder, memory_config({**sizes, **model}, untied_at), is_untied=untied_at is not None)
    assert isinstance(built, Shell)
    return built


def write_model(folder: Path, config: TrainingRunConfig, *, is_untied: bool = False) -> LanguageModel:
    """A run of step 7 with two evaluations; its model."""
    built = build_model(config.model, torch.Generator().manual_seed(0)).eval()
    if isinstance(built, Shell) and is_untied:
        built.untie()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    environment = {"commit": "0123abc", "diff": "", "versions": {"torch": "2"}, "data": {"qa": "f00d"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    rows = ({"step": 7, "recall_trained": 0.25}, {"step": 9, "recall_trained": 1.0})
    (folder / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    optimizer = torch.optim.SGD(built.parameters())
    Checkpointer(folder / "checkpoints").save(7, built, optimizer, {})
    return built
