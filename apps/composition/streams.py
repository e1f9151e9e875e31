"""Batches of sequences, as pure functions of (seed, step, rank), through the phases of a curriculum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.composition.data import Dataset, Splits, as_codes, encode_rows
from apps.composition.data_config import DataConfig
from nanollama.data.batch import IGNORE, Batch
from nanollama.data.stream import DocumentStream, Stream, quotas
from nanollama.seeds import named_seed
from nanollama.training.learner import LossFn
from nanollama.training.loss import next_token_loss


@dataclass(frozen=True)
class Sequences:
    """Encoded sequences of one task, as a source of a `DocumentStream`.

    Args:
        tokens: (n, width), padded at the end.
        n_inputs: (n,) inputs L of each.
        n_outputs: (n,) outputs of each.
    """

    tokens: np.ndarray
    n_inputs: np.ndarray
    n_outputs: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _lengths(self) -> np.ndarray:
        return self.n_inputs + self.n_outputs + 3

    def lengths(self) -> np.ndarray:
        """Tokens of each sequence."""
        return self._lengths

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of a sequence, and which carry loss: those after the end of input."""
        length = int(self.lengths()[index])
        return self.tokens[index, :length], np.arange(length) > self.n_inputs[index] + 1

    def take(self, indices: np.ndarray) -> Sequences:
        """Some of the sequences."""
        return Sequences(self.tokens[indices], self.n_inputs[indices], self.n_outputs[indices])


def make_batch(rows: Sequences) -> Batch:
    """A batch, its rows ordered by length and trimmed to the longest; loss after the end of input only."""
    rows = rows.take(np.argsort(rows.lengths(), kind="stable"))
    lengths = rows.lengths() - 1
    queries = np.arange(rows.n_outputs.max() + 1)
    positions = rows.n_inputs[:, None] + 1 + queries
    real = queries <= rows.n_outputs[:, None]
    positions = np.where(real, positions, 0)
    targets = np.where(real, np.take_along_axis(rows.tokens, positions + 1, axis=1), IGNORE)
    return Batch(
        input_ids=torch.from_numpy(np.ascontiguousarray(rows.tokens[:, : lengths.max()])),
        targets=torch.from_numpy(targets),
        query_positions=torch.from_numpy(positions),
        documents=None,
        n_loss_tokens=int(real.sum()),
        n_tokens=int(lengths.sum()),
        n_examples=len(rows),
    )


def build_stream(config: DataConfig, dataset: Dataset, batch_size: int, seed: int) -> Stream:
    """The stream of a run: from the listed sequences, or fresh ones where ``config.n_train`` is None."""
    streams: list[Stream] = []
    for number, stage in enumerate(config.stages):
        tasks, shares, lengths = list(stage.weights), list(stage.weights.values()), stage.lengths
        phase_seed = named_seed(seed, f"phase/{number}")
        if config.n_train is None:
            streams.append(FreshStream(config, dataset.test, tasks, shares, lengths, batch_size, phase_seed))
        else:
            sources = [
                Sequences(*encode_rows(config, {(task, n): dataset.train[task, n] for n in lengths}))
                for task in tasks
            ]
            streams.append(
                ListedStream(sources, shares, batch_size, phase_seed, config.batching == "bucketed")
            )
    return PhasedStream([stage.from_step for stage in config.stages], streams)


class PhasedStream:
    """One stream after the other, each from its step on and counting its own steps."""

    def __init__(self, from_steps: Sequence[int], streams: Sequence[Stream]) -> None:
        self.from_steps = np.array(from_steps)
        self.streams = list(streams)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `Stream.batch`."""
        phase = int(np.searchsorted(self.from_steps, step, side="right")) - 1
        return self.streams[phase].batch(step - int(self.from_steps[phase]), rank, world_size)


class ListedStream:
    """Epochs over listed sequences, task by task, each task with its share of every batch.

    The order is that of the library's `DocumentStream`. Rows are taken from one array instead of one by one,
    .34 ms a batch where that takes 2.37, and are padded as `make_batch` does.
    """

    def __init__(
        self,
        sources: Sequence[Sequences],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        bucketed: bool = False,
    ) -> None:
        self.order = DocumentStream(
            sources, batch_size, seed, weights, batching="bucketed" if bucketed else "trimmed"
        )
        starts = np.cumsum([0, *(len(source) for source in sources)])
        self.starts = starts[:-1]
        width = max(source.tokens.shape[1] for source in sources)
        self.all = Sequences(
            np.concatenate([np.pad(s.tokens, ((0, 0), (0, width - s.tokens.shape[1]))) for s in sources]),
            np.concatenate([source.n_inputs for source in sources]),
            np.concatenate([source.n_outputs for source in sources]),
        )

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `Stream.batch`."""
        rows = np.array(self.order.rows(step)[rank::world_size])
        return make_batch(self.all.take(self.starts[rows[:, 0]] + rows[:, 1]))


class FreshStream:
    """Sequences drawn for every batch, uniform in length and in inputs, those of the test left out."""

    def __init__(
        self,
        config: DataConfig,
        test: Splits,
        tasks: Sequence[int],
        weights: Sequence[float],
        lengths: range,
        batch_size: int,
        seed: int,
    ) -> None:
        self.config = config
        self.test = {key: np.unique(as_codes(inputs)) for key, inputs in test.items()}
        self.tasks = np.array(tasks)
        self.weights = list(weights)
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `Stream.batch`. Every rank draws the whole batch and keeps its share."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        before, after = (quotas(self.weights, (step + more) * self.batch_size) for more in (0, 1))
        tasks = np.repeat(self.tasks, np.subtract(after, before))
        lengths = rng.integers(self.lengths.start, self.lengths.stop, size=len(tasks))
        groups: dict[tuple[int, int], np.ndarray] = {}
        for task in np.unique(tasks):
            for length in np.unique(lengths[tasks == task]):
                n = int(((tasks == task) & (lengths == length)).sum())
                groups[int(task), int(length)] = self._draw(int(task), int(length), n, rng)
        rows = Sequences(*encode_rows(self.config, groups))
        return make_batch(rows.take(np.arange(rank, len(rows), world_size)))

    def _draw(self, task: int, length: int, n: int, rng: np.random.Generator) -> np.ndarray:
        values = self.config.tasks[task].inputs
        kept = self.test[task, length]
        drawn = rng.integers(values.start, values.stop, size=(n, length))
        while (again := np.isin(as_codes(drawn), kept)).any():
            drawn[again] = rng.integers(values.start, values.stop, size=(int(again.sum()), length))
        return drawn


def weighted_loss(weights: Mapping[int, float]) -> LossFn:
    """The loss of `next_token_loss`, with sequences that count by task: ``weights`` by problem token.

    The problem token opens each row. The learner divides by the number of tokens, not by their weights.
    """
    if all(weight == 1.0 for weight in weights.values()):
        return next_token_loss

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        # One pass for all tasks: all processes of a run take part in as many, whichever tasks they got.
        logits = model(batch.input_ids, query_positions=batch.query_positions, documents=batch.documents)
        losses = F.cross_entropy(
            logits.transpose(1, 2).float(), batch.targets, ignore_index=IGNORE, reduction="none"
        )
        opens = batch.input_ids[:, 0]
        counts = sum(weight * (opens == token).float() for token, weight in weights.items())
        return (losses.sum(dim=1) * counts).sum()

    return loss
