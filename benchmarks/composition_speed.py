"""Sequences per second of chain-of-thought training, beside a plain loop around PyTorch's own encoder.

Both learn the same batches at the published size (arXiv 2406.02128): polynomial iteration, 8,192 sequences of
lengths 1 to 16, so at most 34 tokens, 2 layers, d_model 128, batches of 256. They take turns, step by step in
one run: ``python -m benchmarks composition``.

    plain   nn.TransformerEncoder, padded to 34 tokens, logits everywhere, float32: what one writes first
    ours    what `apps.composition.train` runs: trimmed batches, the last MLP and logits where the loss looks;
            also compiled (`training.compile=true`)

Goals: at least twice the sequences a second, and at most 2 s an epoch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.streams import build_stream
from apps.composition.tasks import Polynomial
from benchmarks.row import Row
from nanollama.data.batch import IGNORE, Batch
from nanollama.distributed import open_world
from nanollama.learner import Learner
from nanollama.loss import next_token_loss
from nanollama.model import TransformerConfig, build_model
from nanollama.optim import OptimizerConfig
from nanollama.precision import Precision, choose_precision

VOCAB_SIZE, D_MODEL, N_LAYERS = 64, 128, 2
BATCH_SIZE, EPOCH_SIZE = 256, 8192
MAX_TOKENS = 34
N_WARM = 3
N_ACCUMULATION = 2
Step = Callable[[Batch], None]


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


def plain_step() -> Step:
    """One step of the plain loop."""
    model = PlainModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)

    def step(batch: Batch) -> None:
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

    return step


def our_step(learner: Learner) -> Step:
    """One step as the training loop takes it."""

    def step(batch: Batch) -> None:
        learner.backward(batch)
        learner.clip()
        learner.update(3e-4)

    return step


def rows(quick: bool = False) -> list[Row]:
    """The timings; ``quick`` takes a few steps only."""
    n_steps = 2 if quick else 32
    task = Polynomial(implementation="polynomial", problem_token=33)
    data = DataConfig(tasks=(task,), max_length=16, n_train=EPOCH_SIZE // 16, n_test=16)
    stream = build_stream(data, build_dataset(data), BATCH_SIZE, seed=0)
    shape = TransformerConfig(
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
    optimizer = OptimizerConfig(weight_decay=0, betas=(0.9, 0.999), schedule="constant")
    with open_world("cpu") as world:
        contestants = {"plain": plain_step()}
        auto = choose_precision("auto", world.device)
        ways: dict[str, tuple[Precision, bool]] = {"ours, float32": ("float32", False), "ours": (auto, False)}
        if not quick:
            ways["ours, compiled"] = (auto, True)
        for name, (precision, compile_model) in ways.items():
            learner = Learner(
                build_model(shape, torch.Generator().manual_seed(0)),
                next_token_loss,
                optimizer,
                world,
                precision=precision,
                n_accumulation=N_ACCUMULATION,
                compile_model=compile_model,
            )
            contestants[name] = our_step(learner)
        seconds = measure(contestants, stream.batch, n_steps)
    rate = {name: BATCH_SIZE / value for name, value in seconds.items()}
    found = [
        Row(f"train, published size, {name}", value, "sequences/s", rate["plain"], "plain PyTorch loop")
        for name, value in rate.items()
        if name != "plain"
    ]
    best = max(value for name, value in rate.items() if name != "plain")
    return [*found, Row("an epoch of 8,192 sequences", EPOCH_SIZE / best, "s", 2.0, "aim")]


def measure(contestants: dict[str, Step], batch: Callable[[int], Batch], n_steps: int) -> dict[str, float]:
    """Median seconds of a step of each, taking turns on the same batches."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(N_WARM + n_steps):
        current = batch(number)
        for name, step in contestants.items():
            began = time.perf_counter()
            step(current)
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[N_WARM:]) for name, values in times.items()}


if __name__ == "__main__":
    for row in rows():
        print(row)
