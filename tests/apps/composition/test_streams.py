"""Batches: the same for the same step, shared out by rank, with the right queries, through phases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from apps.composition.data import build_dataset, encode, encode_rows
from apps.composition.data_config import DataConfig
from apps.composition.streams import PhasedStream, Sequences, build_stream, make_batch, weighted_loss
from nanollama.data.batch import IGNORE, Batch
from nanollama.data.stream import Stream
from nanollama.model import ModelConfig, build_model
from nanollama.training.loss import next_token_loss

PARITY = {"implementation": "parity", "problem_token": 32}
POLYNOMIAL = {"implementation": "polynomial", "problem_token": 33, "modulus": 5}


def stream_of(
    *tasks: dict[str, Any], batch_size: int = 12, seed: int = 0, **keys: Any
) -> tuple[DataConfig, Stream]:
    config = DataConfig(tasks=tasks, **{"max_length": 6, "n_train": 24, "n_test": 8, **keys})
    return config, build_stream(config, build_dataset(config), batch_size, seed)


def sequences(batch: Batch, config: DataConfig) -> list[list[int]]:
    """The sequences of a batch, put together from inputs and targets."""
    assert batch.query_positions is not None
    rows = []
    for ids, targets, positions in zip(batch.input_ids, batch.targets, batch.query_positions, strict=True):
        real = targets != IGNORE
        end = int(positions[real][-1])
        row = [*ids[: end + 1].tolist(), int(targets[real][-1])]
        assert [row[position + 1] for position in positions[real]] == targets[real].tolist()
        assert row[int(positions[0])] == config.tokens.end_of_input, "loss begins after the end of input"
        rows.append(row)
    return rows


KINDS: list[dict[str, Any]] = [{}, {"n_train": None}, {"batching": "bucketed"}, {"chain_of_thought": False}]


@pytest.mark.parametrize("keys", KINDS, ids=["listed", "fresh", "bucketed", "no chain of thought"])
def test_every_row_is_a_sequence_of_its_task(keys: dict[str, Any]) -> None:
    config, stream = stream_of(PARITY, POLYNOMIAL, **keys)
    for step in range(5):
        batch = stream.batch(step)
        rows = sequences(batch, config)
        for row in rows:
            number = row[0] - 32
            inputs = np.array([row[1 : row.index(config.tokens.end_of_input)]]) - config.tokens.first_value
            assert encode(config, number, inputs)[0].tolist() == row
        assert batch.n_examples == 12
        assert batch.n_tokens == sum(len(row) - 1 for row in rows)
        assert batch.n_loss_tokens == int((batch.targets != IGNORE).sum())
        assert [len(row) for row in rows] == sorted(len(row) for row in rows)
        assert batch.input_ids.shape[1] == max(len(row) for row in rows) - 1, "trimmed to the longest"


@pytest.mark.parametrize("keys", KINDS[:3], ids=["listed", "fresh", "bucketed"])
def test_batches_are_functions_of_seed_and_step_and_shared_out_by_rank(keys: dict[str, Any]) -> None:
    config, stream = stream_of(PARITY, POLYNOMIAL, **keys)
    _, again = stream_of(PARITY, POLYNOMIAL, **keys)
    _, other = stream_of(PARITY, POLYNOMIAL, seed=1, **keys)
    last = stream.batch(7)
    assert sequences(again.batch(7), config) == sequences(last, config), "whatever was asked for before"
    assert sequences(other.batch(7), config) != sequences(last, config)
    assert sequences(stream.batch(8), config) != sequences(last, config)
    shares = [sequences(stream.batch(7, rank, 3), config) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert sorted(row for share in shares for row in share) == sorted(sequences(last, config))


def test_fresh_batches_of_several_tasks_are_whole() -> None:
    third = {**PARITY, "problem_token": 34}
    weights = [5.0, 1.0, 4.0]
    tasks = [{**task, "weight": w} for task, w in zip((PARITY, POLYNOMIAL, third), weights, strict=True)]
    _, stream = stream_of(*tasks, batch_size=1, n_train=None)
    assert [stream.batch(step).n_examples for step in range(20)] == [1] * 20


COPY = {"implementation": "copy", "problem_token": 34}


@pytest.mark.parametrize(
    ("tasks", "phases"),
    [
        ([PARITY, {**COPY, "weight": 0}], []),
        ([PARITY], [{"from_step": 0, "max_length": 4}]),
        ([PARITY, COPY], [{"from_step": 0, "weights": [1, 0], "min_length": 3}]),
    ],
)
def test_a_pass_counts_what_is_read_and_nothing_else(
    tasks: list[dict[str, Any]], phases: list[dict[str, Any]]
) -> None:
    config, stream = stream_of(*tasks, batch_size=1, phases=phases)
    rows = [tuple(row) for step in range(config.n_examples) for row in sequences(stream.batch(step), config)]
    assert len(set(rows)) == len(rows) == config.n_examples
    (again,) = sequences(stream.batch(config.n_examples), config)
    assert tuple(again) in rows


def test_what_several_phases_read_counts_once() -> None:
    whole, _ = stream_of(PARITY, COPY)
    phases = [{"from_step": 2, "weights": [1, 0]}, {"from_step": 4, "weights": [0, 1], "max_length": 3}]
    config, _ = stream_of(PARITY, {**COPY, "weight": 0}, phases=phases)
    short, _ = stream_of(COPY, max_length=3)
    assert config.n_examples == whole.n_examples // 2 + short.n_examples


def test_an_epoch_shows_every_training_sequence_once_and_none_of_the_test() -> None:
    config, stream = stream_of(PARITY, batch_size=10)
    n_batches, rest = divmod(config.n_examples, 10)
    rows = [tuple(row) for step in range(n_batches) for row in sequences(stream.batch(step), config)]
    assert len(set(rows)) == len(rows) == config.n_examples - rest
    test = build_dataset(config).test
    kept = {tuple(row) for (task, _), inputs in test.items() for row in encode(config, task, inputs).tolist()}
    assert kept and not kept & set(rows)


def test_fresh_sequences_are_never_those_of_the_test() -> None:
    config, stream = stream_of(PARITY, n_train=None, batch_size=200, max_length=5, n_test=8)
    test = build_dataset(config).test
    kept = {tuple(row) for (task, _), inputs in test.items() for row in encode(config, task, inputs).tolist()}
    seen = {tuple(row) for step in range(10) for row in sequences(stream.batch(step), config)}
    assert not kept & seen
    assert len(kept | seen) == 2 + 4 + 8 + 16 + 32, "all others come"


def opens(batch: Batch) -> list[int]:
    return sorted(batch.input_ids[:, 0].tolist())


@pytest.mark.parametrize("n_train", [24, None])
def test_shares_of_a_mix(n_train: int | None) -> None:
    _, stream = stream_of({**PARITY, "weight": 3}, POLYNOMIAL, n_train=n_train)
    assert opens(stream.batch(0)) == [32] * 9 + [33] * 3


@pytest.mark.parametrize("n_train", [24, None])
def test_phases_change_weights_and_lengths(n_train: int | None) -> None:
    phases = (
        {"from_step": 2, "weights": (1, 0), "max_length": 2},
        {"from_step": 4, "weights": (1, 2)},
    )
    config, stream = stream_of({**PARITY, "weight": 0}, POLYNOMIAL, n_train=n_train, phases=phases)
    assert opens(stream.batch(1)) == [33] * 12
    assert opens(stream.batch(2)) == [32] * 12
    assert {len(row) for row in sequences(stream.batch(3), config)} <= {5, 7}
    assert opens(stream.batch(4)) == [32] * 4 + [33] * 8


@pytest.mark.parametrize("n_train", [24, None])
def test_a_phase_has_lengths_and_an_order_of_its_own(n_train: int | None) -> None:
    phases = ({"from_step": 1, "min_length": 4, "max_length": 4}, {"from_step": 2}, {"from_step": 3})
    config, stream = stream_of(PARITY, n_train=n_train, phases=phases)
    _, plain = stream_of(PARITY, n_train=n_train)
    steps = [sequences(stream.batch(step), config) for step in range(4)]
    assert steps[0] == sequences(plain.batch(0), config), "before its first phase a run is as without phases"
    assert {len(row) for row in steps[1]} == {11}
    assert steps[2] != steps[0] != steps[3] != steps[2]


def test_each_phase_counts_its_own_steps() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Any:
            return self.name, step, rank, world_size

    stream = PhasedStream([0, 3, 5], [Named("a"), Named("b"), Named("c")])
    found = [stream.batch(step, 1, 2) for step in (0, 2, 3, 4, 5, 9)]
    assert found == [(name, step, 1, 2) for name, step in zip("aabbcc", (0, 2, 0, 1, 0, 4), strict=True)]


@pytest.mark.parametrize("n_train", [24, None])
def test_shares_are_exact_over_several_batches(n_train: int | None) -> None:
    _, stream = stream_of({**PARITY, "weight": 1}, {**POLYNOMIAL, "weight": 2}, batch_size=4, n_train=n_train)
    assert [token for step in range(3) for token in opens(stream.batch(step))].count(32) == 4


def test_bucketed_batches_are_of_like_length() -> None:
    config, stream = stream_of(PARITY, batching="bucketed", min_length=3, batch_size=4)
    spreads = [np.ptp([len(row) for row in sequences(stream.batch(step), config)]) for step in range(16)]
    assert max(spreads) <= 2, "two lengths at most: a step in length is two tokens"


def test_a_document_carries_loss_where_a_batch_does() -> None:
    config = DataConfig(tasks=(PARITY,), max_length=3, n_train=6, n_test=2)
    rows = Sequences(*encode_rows(config, {(0, 2): np.array([[1, 1]]), (0, 3): np.array([[1, 0, 1]])}))
    batch = make_batch(rows)
    for row in range(2):
        ids, mask = rows.document(row)
        real = batch.targets[row] != IGNORE
        assert ids[mask].tolist() == batch.targets[row][real].tolist()


def test_loss_weights_multiply_the_loss_of_their_task() -> None:
    _, stream = stream_of(PARITY, POLYNOMIAL)
    shape = ModelConfig(implementation="transformer", vocab_size=64, d_model=8, n_layers=1, n_heads=1)
    model = build_model(shape, torch.Generator().manual_seed(0))
    assert weighted_loss({32: 1.0, 33: 1.0}) is next_token_loss

    def loss(weights: dict[int, float], module: nn.Module = model) -> float:
        with torch.no_grad():
            return float(weighted_loss(weights)(module, stream.batch(0)))

    parts = [loss({32: 1.0, 33: 1e-9}), loss({32: 1e-9, 33: 1.0})]
    with torch.no_grad():
        assert sum(parts) == pytest.approx(float(next_token_loss(model, stream.batch(0))), rel=1e-5)
    assert loss({32: 2.0, 33: 0.5}) == pytest.approx(2 * parts[0] + 0.5 * parts[1], rel=1e-5)


def test_all_tasks_share_one_pass_through_the_model() -> None:
    """So processes with rows of other tasks take part in as many exchanges."""
    _, stream = stream_of(PARITY, POLYNOMIAL)
    shape = ModelConfig(implementation="transformer", vocab_size=64, d_model=8, n_layers=1, n_heads=1)
    model = build_model(shape, torch.Generator().manual_seed(0))
    passes: list[object] = []
    model.register_forward_hook(lambda *_: passes.append(None))
    weighted_loss({32: 2.0, 33: 0.5})(model, stream.batch(0)).backward()
    assert len(passes) == 1
