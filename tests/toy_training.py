"""A small run for tests of training: a model, a stream, a loss and an evaluator, and a main that runs them.

``python -m tests.toy_training FOLDER [key=JSON ...]`` trains as a study does, with its exit codes.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from nanollama.config import Config
from nanollama.data.batch import IGNORE, Batch
from nanollama.monitor.profiler import PHASES
from nanollama.monitor.run_folder import TrainResult, open_run
from nanollama.training.config import TrainingConfig
from nanollama.training.loop import train

VOCAB_SIZE, SEQ_LEN = 11, 7
TIMING = {
    "tokens_per_second",
    "examples_per_second",
    "elapsed_seconds",
    "flops_per_second",
    "peak_memory_mib",
    *(f"{phase}_seconds" for phase in PHASES),
}


class ToyConfig(Config):
    """A whole run."""

    run_dir: str = Field("", description="Run folder.")
    overwrite: bool = Field(False, description="Start anew.")
    dropout: float = Field(0.0, description="Of the embeddings.")
    training: TrainingConfig = Field(description="How to train.")


class ToyModel(nn.Module):
    """Predicts the next token from this one; has a matrix, a bias, a scale and tied embeddings."""

    def __init__(self, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Embedding(VOCAB_SIZE, 8)
        self.norm = nn.RMSNorm(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, VOCAB_SIZE, bias=False)
        self.dropout = nn.Dropout(dropout)
        for parameter in (self.embedding.weight, self.mix.weight, self.mix.bias):
            parameter.data.normal_(0.0, 0.3, generator=generator)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.dropout(self.embedding(input_ids))
        return self.head(self.norm(x + F.silu(self.mix(x))))

    def forward_flops(self, seq_len: int, n_queries: int | None = None) -> int:
        return 2 * seq_len * (64 + 8 * VOCAB_SIZE)


class ToyStream:
    """Sequences that count up modulo the vocabulary, of random length, shared out by rank."""

    def __init__(self, batch_size: int, seed: int = 0) -> None:
        self.batch_size, self.seed = batch_size, seed

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        generator = torch.Generator().manual_seed(1000 * self.seed + step)
        first = torch.randint(VOCAB_SIZE, (self.batch_size, 1), generator=generator)
        lengths = torch.randint(1, SEQ_LEN + 1, (self.batch_size, 1), generator=generator)
        ids = ((first + torch.arange(SEQ_LEN + 1)) % VOCAB_SIZE)[rank::world_size]
        real = (torch.arange(SEQ_LEN) < lengths)[rank::world_size]
        targets = torch.where(real, ids[:, 1:], IGNORE)
        n_tokens = int(real.sum())
        return Batch(ids[:, :-1], targets, None, None, n_tokens, n_tokens, len(ids))


def toy_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Summed cross entropy."""
    logits = model(batch.input_ids).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORE, reduction="sum")


class ToyEvaluator:
    """The norm of the weights and a random number; counts how often it is asked."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def evaluate(self, model: nn.Module, step: int) -> dict[str, float]:
        assert not model.training and not torch.is_grad_enabled()
        self.steps.append(step)
        return {"weight_norm": float(model.embedding.weight.norm()), "draw": float(torch.rand(()))}


def toy_config(folder: Path, dropout: float = 0.0, overwrite: bool = False, **training: Any) -> ToyConfig:
    """A run of 12 steps in float32."""
    defaults: dict[str, Any] = {
        "n_steps": 12,
        "batch_size": 6,
        "log_every": 2,
        "device": "cpu",
        "precision": "float32",
        "checkpoint": {"every": 4},
        "optimizer": {"learning_rate": 0.03, "warmup_steps": 2},
    }
    return ToyConfig(
        run_dir=str(folder),
        overwrite=overwrite,
        dropout=dropout,
        training=TrainingConfig(**{**defaults, **training}),
    )


def run_toy(config: ToyConfig, **parts: Any) -> TrainResult:
    """Train as the config says; ``parts`` replace parts of the toy."""
    training = config.training
    if "model" not in parts:
        parts["model"] = ToyModel(training.seed, config.dropout)
    defaults: dict[str, Any] = {
        "stream": ToyStream(training.batch_size, training.seed),
        "loss_fn": toy_loss,
        "evaluators": [ToyEvaluator()],
    }
    folder = Path(config.run_dir)
    with open_run(config, folder, device=training.device, overwrite=config.overwrite) as run:
        return train(run, training, **{**defaults, **parts})


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The rows of a run without the columns that tell the time."""
    path = folder / name
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def newest(folder: Path) -> Path:
    """The newest checkpoint."""
    return max((folder / "checkpoints").iterdir())


def same_end(one: Path, other: Path) -> bool:
    """Do two runs end with the same bits: weights, optimizer, rows?"""
    ends = [newest(one), newest(other)]
    # Not the bytes of the files: the names of several tied tensors stand in them in any order.
    weights = [load_file(end / "model.safetensors") for end in ends]
    optimizers = [torch.load(end / "optimizer.pt", weights_only=True) for end in ends]
    states = [json.loads((end / "state.json").read_text()) | {"seconds": 0} for end in ends]
    return (
        ends[0].name == ends[1].name
        and same_values(*weights)
        and same_values(*optimizers)
        and states[0] == states[1]
        and rows(one) == rows(other)
        and rows(one, "evals.jsonl") == rows(other, "evals.jsonl")
    )


def check_that_a_stopped_run_ends_alike(train: Callable[[], object]) -> None:
    """A run of 6 steps, in the folder ``run`` here, is the same when all after its step 2 is lost."""
    train()
    shutil.copytree("run", "whole")
    Path("run/result.json").unlink()
    for step in (4, 6):
        shutil.rmtree(f"run/checkpoints/step_{step:08d}")
    train()
    assert "Going on from step 2" in Path("run/log.txt").read_text()
    assert same_end(Path("whole"), Path("run"))


def same_values(one: Any, other: Any) -> bool:
    """Equality of nested dicts and lists of tensors, bit for bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_values(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same_values(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def main(argv: list[str]) -> int:
    """Train in the folder ``argv[0]`` with the settings ``key=JSON`` that follow."""
    from nanollama.errors import Preempted, UserError

    settings = {key: json.loads(value) for key, _, value in (item.partition("=") for item in argv[1:])}
    logging.getLogger("nanollama").setLevel(logging.INFO)
    try:
        run_toy(toy_config(Path(argv[0]), **settings))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Preempted as error:
        print(error, file=sys.stderr)
        return 75
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
