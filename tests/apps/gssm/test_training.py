"""Training on graphs: batches, what is measured, files of sequences, stopping and going on, wrong input."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.gssm import data, train
from apps.gssm.data_config import FIRST_TEST, GraphDataConfig, SetConfig
from apps.gssm.examiner import (
    Losses,
    TestSet,
    build_test_set,
    measure,
    position_bins,
    summarise,
    with_interval,
)
from apps.gssm.settings import GssmConfig
from apps.gssm.source import build_source
from apps.gssm.streams import FreshStream
from nanollama.config import load_config
from nanollama.config.source import read_source
from nanollama.data.rows import RowStream
from nanollama.launcher.plan import read_grid
from nanollama.studies import find_study
from nanollama.training.loop import Loop
from tests.forked import PATIENCE_SECONDS, kill_when
from tests.toy_training import rows, same_end

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "apps" / "gssm" / "config"
SMALL = [
    "data.seq_len=12",
    "measures.n_sequences=16",
    "model.d_model=16",
    "training.n_steps=12",
    "training.batch_size=8",
    "training.log_every=2",
    "training.eval_every=6",
    "training.checkpoint.every=2",
    "training.device=cpu",
]
SETS = (
    "[{name: a, graph: debug, seq_len: 12, n_train: 50, n_test: 9}, "
    "{name: b, graph: sparse, seq_len: 8, n_train: 21}]"
)


def arguments(folder: Path, *keys: str) -> list[str]:
    return [str(CONFIGS / "debug.yaml"), f"run_dir={folder}", *SMALL, *keys]


def graph_data(**changes: Any) -> GraphDataConfig:
    return GraphDataConfig.model_validate(
        {"implementation": "graph", "graph": "debug", "seq_len": 12, **changes}
    )


def write_file(path: Path, *keys: str) -> int:
    return data.main([str(CONFIGS / "data.yaml"), f"file={path}", f"sets={SETS}", "chunk_size=7", *keys])


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_valid(path: Path, scale: str) -> None:
    configs = find_study("gssm").configs
    if "grid" in read_source([str(path)]).value:
        plan = read_grid([str(path), f"scale={scale}"])
        assert plan.expect, "a grid says what it expects"
        assert len({run.values[plan.seed_key or ""] for run in plan.runs}) >= 3
    elif path.stem in configs or path.stem == "debug":  # they have one size
        load_config(configs.get(path.stem, GssmConfig), [str(path)])
    else:
        load_config(GssmConfig, [str(path), f"scale={scale}"])


@pytest.mark.parametrize("n_data", [None, 30])
def test_ranks_share_out_the_same_global_batch(n_data: int | None) -> None:
    source = build_source(graph_data())
    stream: Any = FreshStream(source, 8)
    if n_data is not None:
        stream = RowStream(source.draw_many(range(n_data)), 8, seed=3)
    for step in (0, 7):
        whole = stream.batch(step)
        for world_size in (2, 4):
            parts = [stream.batch(step, rank, world_size) for rank in range(world_size)]
            joined = torch.empty_like(whole.input_ids), torch.empty_like(whole.targets)
            for rank, part in enumerate(parts):
                joined[0][rank::world_size], joined[1][rank::world_size] = part.input_ids, part.targets
            assert torch.equal(joined[0], whole.input_ids) and torch.equal(joined[1], whole.targets)
            assert sum(part.n_loss_tokens for part in parts) == whole.n_loss_tokens == 8 * 12
    assert torch.equal(whole.input_ids[:, 1:], whole.targets[:, :-1])


def test_fresh_batches_never_repeat_and_epochs_do() -> None:
    source = build_source(graph_data(seq_len=40))
    fresh, listed = FreshStream(source, 8), RowStream(source.draw_many(range(24)), 8, seed=0)
    seen = np.concatenate([fresh.batch(step).input_ids.numpy() for step in range(6)])
    assert len(np.unique(seen, axis=0)) == 48
    epochs = [
        np.concatenate([listed.batch(3 * epoch + step).input_ids.numpy() for step in range(3)])
        for epoch in range(2)
    ]
    assert not np.array_equal(*epochs)
    assert np.array_equal(*(np.unique(epoch, axis=0) for epoch in epochs))


class Asked:
    """Remembers which sequences are drawn."""

    def __init__(self, source: Any) -> None:
        self.source, self.numbers = source, set()  # type: ignore[var-annotated]

    def draw(self, numbers: range) -> np.ndarray:
        self.numbers |= {*numbers}
        return self.source.draw(numbers)  # type: ignore[no-any-return]


@given(
    step=st.integers(0, 1 << 30),
    batch_size=st.integers(1, 512),
    rank=st.integers(0, 7),
)
@settings(max_examples=40, deadline=None)
def test_no_sequence_of_the_test_can_be_learned_from(step: int, batch_size: int, rank: int) -> None:
    """Up to 2^30 steps of 512 sequences, numbers stay below those of the test, and each number is its own."""
    asked: Any = Asked(build_source(graph_data(seq_len=2)))
    if rank < batch_size:
        FreshStream(asked, batch_size).batch(step, rank, 8)
    assert all(0 <= number < FIRST_TEST for number in asked.numbers)
    assert data.FIRST == {"train": 0, "test": FIRST_TEST}
    with pytest.raises(ValueError, match="less than or equal to"):
        graph_data(n_data=FIRST_TEST + 1, file="sequences.h5")
    with pytest.raises(ValueError, match="less than or equal to"):
        SetConfig(name="a", graph="debug", seq_len=2, n_train=FIRST_TEST + 1)


def test_the_test_differs_from_what_is_learned() -> None:
    source = build_source(graph_data(seq_len=100))
    test = {row.tobytes() for row in source.draw_test(64).symbols}
    learned = {row.tobytes() for row in source.draw(range(2000))}
    assert len(test) == 64 and not test & learned


class Oracle(torch.nn.Module):
    """Knows the exact distribution of the next symbol, and is wrong about it by a temperature."""

    device = torch.device("cpu")

    def __init__(self, test: Any, temperature: float = 1.0) -> None:
        super().__init__()
        self.test, self.temperature, self.start = test, temperature, 0

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        rows = slice(self.start, self.start + len(input_ids))
        self.start += len(input_ids)
        return torch.from_numpy(np.maximum(self.test.log_next[rows], -1e3) / self.temperature)


def test_the_gap_of_one_who_knows_all_is_zero() -> None:
    test = build_test_set(build_source(graph_data(seq_len=30)), 300)
    model: Any = Oracle(test)
    found = summarise(measure(model, test), test)
    assert found["gap_nats"] == pytest.approx(0, abs=1e-12)
    assert found["kl_nats"] == pytest.approx(0, abs=1e-12)
    assert found["loss_nats"] == pytest.approx(found["floor_nats"])


def test_the_divergence_is_the_mean_of_the_gap() -> None:
    test = build_test_set(build_source(graph_data(seq_len=30)), 2000)
    model: Any = Oracle(test, temperature=2.0)
    found = summarise(measure(model, test), test)
    assert found["kl_nats"] > 0.02
    assert found["gap_nats_low"] <= found["kl_nats"] <= found["gap_nats_high"]
    assert found["kl_nats_high"] - found["kl_nats_low"] < found["gap_nats_high"] - found["gap_nats_low"]
    assert found["kl_over_learnable"] == pytest.approx(
        found["kl_nats"] / (found["unigram_nats"] - found["floor_nats"])
    )
    parts = position_bins(30)
    assert parts[:3] == [(0, 1), (1, 2), (2, 4)] and parts[-1] == (16, 30)
    weighted = sum((high - low) * found[f"kl_nats/positions_{low}_{high - 1}"] for low, high in parts)
    assert weighted / 30 == pytest.approx(found["kl_nats"])


def test_no_share_is_told_of_what_cannot_be_learned() -> None:
    """Symbols without a hidden state: unigrams say all there is."""
    node = {"name": "X", "state_dim": 8, "alpha": 1.0, "observed": True}
    test = build_test_set(build_source(graph_data(graph={"nodes": (node,)}, seq_len=30)), 300)
    model: Any = Oracle(test, temperature=2.0)
    found = summarise(measure(model, test), test)
    assert found["kl_nats"] > 0.02 and np.isnan(found["kl_over_learnable"])


@pytest.mark.parametrize(("above_nats", "is_told"), [(0.04, False), (0.06, True)])
def test_a_share_is_told_where_even_the_high_end_of_the_floor_leaves_enough(
    above_nats: float, is_told: bool
) -> None:
    floor = np.random.default_rng(0).normal(1.0, 0.5, size=(100, 1))
    exact = with_interval("floor", floor)
    assert exact["floor_high"] - exact["floor"] > 0.05
    sample: Any = None
    test = TestSet(sample, floor, None, unigram_nats=exact["floor_high"] + above_nats)
    share = summarise(Losses(floor + 0.1, np.full_like(floor, 0.1)), test)["kl_over_learnable"]
    assert np.isnan(share) != is_told


def test_a_share_is_told_of_a_source_without_chance() -> None:
    """Every sequence is the same, so that its floor, 0, has no interval."""
    sample: Any = None
    floor = np.zeros((50, 4))
    losses = Losses(floor + 0.3, floor + 0.3)
    assert np.isnan(with_interval("floor", floor)["floor_high"])
    assert summarise(losses, TestSet(sample, floor, None, 1.5))["kl_over_learnable"] == pytest.approx(0.2)


CONTEXT = (
    "{nodes: [{name: Z, state_dim: 4, alpha: 0.2, mode: context}, "
    "{name: X, state_dim: 8, alpha: 0.1, parents: [Z], observed: true}]}"
)


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["debug", CONTEXT.replace("{nodes", "{n_contexts: 3, nodes", 1)])
def test_a_trained_model_is_never_below_the_floor(graph: str, tmp_path: Path) -> None:
    keys = [
        f"data.graph={graph}",
        "training.n_steps=300",
        "training.batch_size=32",
        "measures.n_sequences=256",
    ]
    keys += ["training.optimizer.learning_rate=1e-2", "training.eval_every=100", "data.seq_len=16"]
    assert train.main(arguments(tmp_path, *keys)) == 0
    for row in rows(tmp_path, "evals.jsonl"):
        assert row["gap_nats_high"] > 0 and row["kl_nats"] > 0
        assert all(row[name] >= 0 for name in row if name.startswith("kl_nats/") and name[-1].isdigit())
    assert row["loss_nats"] < row["unigram_nats"] - 0.3 * (row["unigram_nats"] - row["floor_nats"])


def test_without_a_library_there_is_no_floor_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments(tmp_path, f"data.graph={CONTEXT}")) == 0
    (*_, row) = rows(tmp_path, "evals.jsonl")
    assert {"loss_nats", "unigram_nats"} <= row.keys() and "gap_nats" not in row and "floor_nats" not in row
    assert "There is no exact floor" in (tmp_path / "log.txt").read_text()


def train_and_hang(argv: list[str], reached: Path) -> int:
    """Train for seven steps, and say so by a file."""
    take_step = Loop.take_step

    def take_or_hang(loop: Loop, batches: Any) -> None:
        if loop.state.step == 7:
            reached.touch()
            time.sleep(PATIENCE_SECONDS)
        take_step(loop, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "take_step", take_or_hang)
        return train.main(argv)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fresh", "n_data", "file"])
def test_a_killed_run_ends_with_the_same_bits(way: str, tmp_path: Path) -> None:
    keys = {"fresh": [], "n_data": ["data.n_data=50"], "file": [f"data.file={tmp_path / 's.h5'}"]}[way]
    if way == "file":
        assert write_file(tmp_path / "s.h5") == 0
    keys += ["training.checkpoint.every=4"]
    whole, cut, reached = tmp_path / "whole", tmp_path / "cut", tmp_path / "reached"
    assert train.main(arguments(whole, *keys)) == 0
    assert kill_when(reached.exists, train_and_hang, arguments(cut, *keys), reached) == -signal.SIGKILL
    assert train.main(arguments(cut, *keys)) == 0
    assert "Going on from step 4; rows written after it: 2, removed." in (cut / "log.txt").read_text()
    assert same_end(whole, cut)


Z, X = (
    "{name: Z, state_dim: 4, alpha: 0.1}",
    "{name: X, state_dim: 8, alpha: 0.1, parents: [Z], observed: true}",
)
WRONG_KEYS = {
    "there is no graph 'debgu'; did you mean 'debug'": ["data.graph=debgu"],
    "exactly one node needs `observed: true`": [f"data.graph={{nodes: [{Z}]}}"],
    "unknown parent 'Y'": [f"data.graph={{nodes: [{Z}, {X.replace('[Z]', '[Y]')}]}}"],
    "parents form a cycle": [
        f"data.graph={{nodes: [{{name: Z, state_dim: 4, alpha: 0.1, parents: [W]}}, "
        f"{{name: W, state_dim: 4, alpha: 0.1, parents: [Z]}}, {X}]}}"
    ],
    "two nodes are called 'Z'": [f"data.graph={{nodes: [{Z}, {Z}, {X}]}}"],
    "is slow and cannot have parents": [
        f"data.graph={{nodes: [{Z}, {{name: W, state_dim: 4, alpha: 0.1, mode: slow, parents: [Z]}}, {X}]}}"
    ],
    "is observed and cannot be slow": [
        f"data.graph={{nodes: [{Z}, {X.replace('alpha', 'mode: slow, alpha')}]}}"
    ],
    "entries, more than": [f"data.graph={{nodes: [{{name: Z, state_dim: 8000, alpha: 0.1}}, {X}]}}"],
    "n_contexts = 3 has no effect": [f"data.graph={{n_contexts: 3, nodes: [{Z}, {X}]}}"],
    "match.nodes: no node is called 'Z9'": ["data.match={rate_nats: 1, nodes: [Z9]}"],
    "match needs a known entropy": ["data.match={rate_nats: 1}", f"data.graph={CONTEXT}"],
    "gives an entropy rate of 50 nats": ["data.match={rate_nats: 50}"],
    "model.vocab_size = 4 is too small": ["model.vocab_size=4"],
    "model.max_seq_len = 64 is too small": ["data.seq_len=65"],
    "a node cannot be called 'a/b'": [f"data.graph={{nodes: [{Z.replace('Z', 'a/b')}]}}"],
    "other than 'context'": [f"data.graph={{nodes: [{Z.replace('Z', 'context')}]}}"],
    "expected an integer >= 2 and <= 1048576": ["measures.n_sequences=1000000000"],
    "memory takes at most 268,435,456: measure on fewer": [
        "measures.n_sequences=1000000",
        "data.seq_len=64",
    ],
    "memory takes at most 2,147,483,648": ["data.n_data=200000000"],
    "unknown key": ["data.n_datas=4"],
}


@pytest.mark.parametrize("message", WRONG_KEYS)
def test_a_wrong_graph_is_told(message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(arguments(tmp_path, *WRONG_KEYS[message])) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told
