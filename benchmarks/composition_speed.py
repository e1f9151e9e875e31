"""Sequences per second of chain-of-thought training, beside a plain loop around PyTorch's own encoder.

All learn the same sequences at the published size (arXiv 2406.02128): polynomial iteration, 8,192 sequences
of lengths 1 to 16, so at most 34 tokens, 2 layers, d_model 128, batches of 256. They take turns of whole
epochs: ``python -m benchmarks composition``.

    plain     nn.TransformerEncoder, padded to 34 tokens, logits everywhere, float32: what one writes first
    ours      what `apps.composition.train` runs: trimmed batches, the last MLP and logits where the loss
              looks; also compiled (`training.compile=true`)
    bucketed  the same, batches of like length (`data.batching=bucketed`): less padding, less variety
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.streams import build_stream
from apps.composition.tasks import Polynomial
from benchmarks.training_speed import steps_of
from benchmarks.turns import Contestant, Pair, Step
from nanollama.data.batch import IGNORE
from nanollama.data.stream import Stream
from nanollama.distributed import open_world
from nanollama.model import ModelConfig, build_model
from nanollama.precision import choose_precision
from nanollama.training.learner import Learner
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig

VOCAB_SIZE, D_MODEL, N_LAYERS = 64, 128, 2
BATCH_SIZE, EPOCH_SIZE = 256, 8192
N_STEPS = EPOCH_SIZE // BATCH_SIZE
AIM = 2.0
BUDGET_SECONDS = 150.0
MAX_TOKENS = 34


class Way(NamedTuple):
    """A way to run our loop."""

    batching: Literal["trimmed", "bucketed"] = "trimmed"
    float32: bool = False
    compiled: bool = False

    @property
    def n_accumulation(self) -> int:
        """Two micro-batches save padding where a batch holds all lengths."""
        return 2 if self.batching == "trimmed" else 1


WAYS = {
    "ours, float32": Way(float32=True),
    "ours": Way(),
    "ours, compiled": Way(compiled=True),
    "ours, bucketed": Way("bucketed"),
    "ours, bucketed, compiled": Way("bucketed", compiled=True),
}


class PlainModel(nn.Module):
    """The same sizes from PyTorch's parts."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, D_MODEL)
        self.position_embedding = nn.Embedding(MAX_TOKENS, D_MODEL)
        layer = nn.TransformerEncoderLayer(
            D_MODEL, 1, 4 * D_MODEL, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, N_LAYERS, nn.LayerNorm(D_MODEL), enable_nested_tensor=False
        )
        self.head = nn.Linear(D_MODEL, VOCAB_SIZE, bias=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(MAX_TOKENS))

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.embedding(input_ids) + self.position_embedding(positions)
        return self.head(self.encoder(x, mask=self.mask, is_causal=True))


def plain_steps(n_steps: int) -> Step:
    """So many steps of the plain loop."""
    stream = make_stream("trimmed")
    model = PlainModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)

    def step(number: int) -> None:
        batch = stream.batch(number)
        assert batch.query_positions is not None
        input_ids = F.pad(batch.input_ids, (0, MAX_TOKENS - batch.input_ids.shape[1]))
        targets = torch.full_like(input_ids, IGNORE)
        real = batch.targets != IGNORE
        rows = torch.arange(len(input_ids))[:, None].expand_as(real)
        targets[rows[real], batch.query_positions[real]] = batch.targets[real]
        loss = F.cross_entropy(model(input_ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return in_a_row(step, n_steps)


def our_steps(way: Way, n_steps: int) -> Step:
    """So many steps as the training loop takes them."""
    stream = make_stream(way.batching)
    shape = ModelConfig(
        implementation="transformer",
        vocab_size=VOCAB_SIZE,
        d_model=D_MODEL,
        n_layers=N_LAYERS,
        n_heads=1,
        norm="layer",
        mlp="gelu",
        positions="learned",
        max_seq_len=MAX_TOKENS,
        bias=True,
    )
    with open_world("cpu") as world:
        learner = Learner(
            build_model(shape, torch.Generator().manual_seed(0)),
            next_token_loss,
            OptimizerConfig(weight_decay=0, betas=(0.9, 0.999), schedule="constant"),
            world,
            precision="float32" if way.float32 else choose_precision("auto", world.device),
            n_accumulation=way.n_accumulation,
            compile_model=way.compiled,
        )

    return in_a_row(steps_of(learner, stream, BATCH_SIZE, learning_rate=3e-4), n_steps)


def in_a_row(step: Callable[[int], object], n_steps: int) -> Step:
    """So many steps as one: a turn of whole epochs has batches of all lengths."""

    def steps(number: int) -> float:
        for index in range(number * n_steps, (number + 1) * n_steps):
            step(index)
        return BATCH_SIZE * n_steps

    return steps


def make_stream(batching: Literal["trimmed", "bucketed"]) -> Stream:
    """Batches of an epoch of 8,192 sequences, the same in each."""
    task = Polynomial(implementation="polynomial", problem_token=33)
    data = DataConfig(tasks=(task,), max_length=16, n_train=EPOCH_SIZE // 16, n_test=16, batching=batching)
    return build_stream(data, build_dataset(data), BATCH_SIZE, seed=0)


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner; a quick run takes two steps of those that need no compiling."""
    n_steps = 2 if quick else N_STEPS
    plain = Contestant("plain PyTorch loop", partial(plain_steps, n_steps))
    return [
        Pair(
            "train, published size",
            "sequences/s",
            Contestant(name, partial(our_steps, way, n_steps)),
            plain,
            None if way.float32 else AIM,
        )
        for name, way in WAYS.items()
        if not (quick and (way.compiled or way.float32))
    ]
