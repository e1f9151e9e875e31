"""The head built by hand solves every task at every length, and shows what the scores call perfect."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from apps.composition import handmade
from apps.composition.circuit import build_handmade, layout
from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.measures import build_groups, measure, summarise
from apps.composition.settings import MeasuresConfig
from apps.composition.tasks import Copy, Iteration, Parity, Polynomial, Table

CONFIGS = Path(__file__).parents[3] / "apps" / "composition" / "config"
TASKS = [
    Copy(implementation="copy", problem_token=40),
    Parity(implementation="parity", problem_token=40),
    Polynomial(implementation="polynomial", problem_token=40),
    Table(implementation="table", problem_token=40, table=((2, 0), (0, 1), (1, 2))),
]


def summary_of(task: Iteration, max_length: int, n_test: int = 16) -> dict[str, float]:
    config = DataConfig(tasks=(task,), max_length=max_length, n_train=None, n_test=n_test)
    model = build_handmade(task, config.tokens, max_length)
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    assert [group.length for group in groups] == list(range(1, max_length + 1))
    return summarise(list(measure(model, config, groups)), config)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.implementation)
@pytest.mark.parametrize("max_length", [1, 8])
def test_it_is_right_and_sharp(task: Iteration, max_length: int) -> None:
    summary = summary_of(task, max_length)
    for length in range(1, max_length + 1):
        assert summary[f"test/accuracy/length_{length}"] == 1.0
        assert summary[f"test/layer_0/head_0/eoi_peakiness/length_{length}"] == 1.0
        assert summary[f"test/layer_1/head_0/iteration_peakiness/length_{length}"] == 1.0
    assert summary["circuit_score"] == pytest.approx(1.0)
    assert (summary["eoi_layer"], summary["iteration_layer"]) == (0, 1)
    assert summary["iteration_invariance"] == pytest.approx(1.0)
    assert summary["iteration_entropy_bits"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS[:3], ids=lambda task: task.implementation)
def test_up_to_thirty_two_inputs(task: Iteration) -> None:
    summary = summary_of(task, 32, n_test=3)
    lengths = range(1, 33)
    assert all(summary[f"test/accuracy/length_{length}"] == 1.0 for length in lengths)
    for layer, pattern in enumerate(("eoi", "iteration")):
        scores = [summary[f"test/layer_{layer}/head_0/{pattern}_peakiness/length_{n}"] for n in lengths]
        assert scores == [1.0] * 32


def test_tasks_differ_in_the_last_mlp_only() -> None:
    models = [
        build_handmade(task, DataConfig(tasks=TASKS[:1], max_length=20).tokens, 20) for task in TASKS[:3]
    ]
    first = models[0].state_dict()
    for model in models[1:]:
        differ = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, first[name])}
        assert differ and all(name.startswith("blocks.1.mlp.") for name in differ)


def test_it_writes_the_whole_sequence_by_itself() -> None:
    task = TASKS[2]
    tokens = DataConfig(tasks=(task,), max_length=5).tokens
    model = build_handmade(task, tokens, 5)
    ids = [task.problem_token, 7, 3, 10, 1, tokens.end_of_input]
    while ids[-1] != tokens.end_of_sequence:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert ids[6:] == [7, 0, 1, 2, tokens.end_of_sequence]


def test_layout_has_no_gaps() -> None:
    blocks = layout(vocab_size=10, max_length=3)
    assert dataclasses.astuple(blocks) == (0, 10, 18, 26, 31, 41, 51)


def test_the_command_prints_the_worst_length(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIGS / "handmade.yaml")
    assert handmade.main([config, "max_length=4", "n_test=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["copy", "parity", "polynomial"]
    assert all(line.count("1.0000") == 3 for line in lines[3:])
    assert handmade.main([config, "vocab_size=63"]) == 2
    assert "vocab_size = 63 is too small: the data use token 63" in capsys.readouterr().err
