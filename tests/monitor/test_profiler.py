"""Rates, seconds by phase, FLOPs, memory."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nanollama.monitor import profiler as module
from nanollama.monitor.profiler import Profiler, peak_memory_bytes, training_flops
from tests.toy_training import ToyModel, ToyStream

CPU = torch.device("cpu")


def test_rates_count_training_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    profiler = Profiler(CPU, seconds=100.0)
    for phase, seconds in (("data", 1), ("forward_backward", 5), ("optimizer", 2), ("evaluate", 40)):
        with profiler.phase(phase):
            now += seconds
    profiler.count(n_tokens=800, n_examples=16, flops=4e9)
    row = profiler.row()
    assert row["tokens_per_second"] == 100 and row["examples_per_second"] == 2
    assert row["flops_per_second"] == 5e8
    assert row["elapsed_seconds"] == 148, "seconds of earlier processes count"
    assert row["forward_backward_seconds"] == 5 and row["evaluate_seconds"] == 40
    assert row["checkpoint_seconds"] == 0
    again = profiler.row()
    assert again["tokens_per_second"] == 0 and again["evaluate_seconds"] == 0


def test_the_time_left_is_told_by_the_pace_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    profiler = Profiler(CPU, seconds=1e6, step=100)
    now += 20
    assert profiler.seconds_left(step=110, n_steps=150) == 80


def test_a_phase_that_fails_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    profiler = Profiler(CPU)
    with pytest.raises(OSError), profiler.phase("data"):
        now += 3
        raise OSError
    assert profiler.row()["data_seconds"] == 3


def test_flops_are_those_that_torch_counts() -> None:
    batch, model = ToyStream(5).batch(0), ToyModel()
    with FlopCounterMode(display=False) as counter:
        model(batch.input_ids).sum().backward()
    assert training_flops(model, batch) == counter.get_total_flops()


def test_a_model_that_cannot_count_has_none() -> None:
    assert training_flops(torch.nn.Linear(2, 2), ToyStream(5).batch(0)) == 0


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**25 < peak_memory_bytes(CPU) < 2**40
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    assert peak_memory_bytes(torch.device("cuda", 0)) == 123
