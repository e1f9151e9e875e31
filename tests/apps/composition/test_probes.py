"""Probes: which pairs they are tested on, what a control is, where activations are read, what cannot be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from apps.composition import eval
from apps.composition.circuit import build_handmade
from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.heads import Circuit
from apps.composition.measures import Group, build_groups
from apps.composition.probes import held_out_pairs, probe_circuit, read
from apps.composition.settings import MeasuresConfig
from apps.composition.tasks import Parity
from nanollama.model import ModelConfig, build_model
from nanollama.model.probe import recorded_outputs
from tests.apps.composition.test_commands import CONFIGS, train_small

PARITY = Parity(implementation="parity", problem_token=40)
CIRCUIT = Circuit(1.0, (0, 0), (1, 0))


def groups_of(min_length: int, max_length: int) -> list[Group]:
    config = DataConfig(tasks=(PARITY,), min_length=min_length, max_length=max_length, n_train=16, n_test=16)
    return build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))


@pytest.mark.parametrize("lengths", [range(1, 3), range(1, 9), range(3, 33)])
def test_pairs_of_every_length_are_held_out_and_every_step_is_still_shown(lengths: range) -> None:
    pairs = held_out_pairs(list(lengths), torch.Generator().manual_seed(0))
    assert len(set(pairs)) == len(pairs) and all(0 <= step <= length for length, step in pairs)
    n_held = Counter(length for length, _ in pairs)
    for length in lengths:
        assert 1 <= n_held[length] <= -(-(length + 1) // 4)
    shown = {(length, step) for length in lengths for step in range(length + 1)} - set(pairs)
    assert {step for _, step in shown} == set(range(lengths[-1] + 1))
    assert held_out_pairs([5], torch.Generator().manual_seed(0)) == [], "no other length shows its steps"


def test_probes_say_on_how_many_pairs_and_sequences_they_rest() -> None:
    """Those of the head built by hand, whose first MLP makes of two positions the step."""
    groups = groups_of(1, 6)
    found = probe_circuit(
        build_handmade(PARITY, DataConfig(tasks=(PARITY,), max_length=6).tokens, 6), groups, CIRCUIT
    )
    by_place = {result.place: result for result in found}
    assert by_place["after the MLP of blocks.0"].accuracy == 1.0
    n_labels, n_pairs = 7, by_place["after the MLP of blocks.0"].n_test
    assert n_pairs == len(held_out_pairs(range(1, 7), torch.Generator().manual_seed(0)))
    # A label of so few pairs is often right or wrong by chance, the mean of twenty seldom.
    assert by_place["after the MLP of blocks.0"].control == pytest.approx(1 / n_labels, abs=0.1)
    assert by_place["after the MLP of blocks.1"].n_test == -(-sum(len(group.tokens) for group in groups) // 4)


def test_where_there_is_one_length_no_step_is_read() -> None:
    model = build_handmade(PARITY, DataConfig(tasks=(PARITY,), max_length=6).tokens, 6)
    assert {result.quantity for result in probe_circuit(model, groups_of(6, 6), CIRCUIT)} == {"next state"}


@torch.no_grad()
@pytest.mark.parametrize("residual", ["stream", "normed", "post"])
def test_what_an_mlp_reads_is_what_comes_before_it(residual: str) -> None:
    shape = ModelConfig.model_validate(
        {"vocab_size": 64, "d_model": 16, "n_layers": 2, "n_heads": 2, "residual": residual, "init_std": 0.5}
    )
    model = build_model(shape, torch.Generator().manual_seed(0)).eval()
    (group,) = groups_of(6, 6)
    reading = read(model, [group], (0, 1))
    for layer, block in enumerate(model.layers):
        before, after = (reading.activations[layer, when] for when in ("before", "after"))
        with recorded_outputs(model, [f"blocks.{layer}", f"blocks.{layer}.mlp"]) as outputs:
            model(group.tokens[:, :-1])
        of_block, of_mlp = (outputs[f"blocks.{layer}{name}"][:, 7:].flatten(0, 1) for name in ("", ".mlp"))
        torch.testing.assert_close(block.mlp(before), of_mlp)
        torch.testing.assert_close(after, of_block)


@pytest.mark.parametrize(
    ("keys", "message", "names"),
    [
        (["model.mlp=none"], "the layers of the circuit have no MLPs", {"measures.csv", "causal.csv"}),
        (["model.n_layers=1"], "No probes: no circuit", {"measures.csv", "causal.csv"}),
        (["data.chain_of_thought=false"], "No causal tests", {"measures.csv"}),
        (
            [
                "data.tasks=[{implementation: sparse_addition, problem_token: 33, n_terms: 2}, "
                "{implementation: parity, problem_token: 32}]",
                "data.min_length=2",
            ],
            "uniform maps: both heads",
            {"measures.csv", "causal.csv", "probes.csv"},
        ),
    ],
)
def test_what_cannot_be_examined_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: list[str], message: str, names: set[str]
) -> None:
    assert train_small(tmp_path, *keys) == 0
    capsys.readouterr()
    assert eval.main([str(CONFIGS / "eval.yaml"), f"run={tmp_path}"]) == 0
    assert message in capsys.readouterr().out
    (examined,) = (tmp_path / "evaluations").iterdir()
    assert {path.name for path in examined.iterdir()} == {"config.yaml", "result.json", *names}


@pytest.mark.parametrize(
    ("of_run", "of_examination"),
    [
        (["data.min_length=4", "data.max_length=4"], ["measures.n_sequences=1"]),
        (["data.min_length=1", "data.max_length=1", "data.n_train=8", "data.n_test=8"], []),
    ],
)
def test_tables_are_whole_where_no_sequence_is_left_to_fit_on(
    tmp_path: Path, of_run: list[str], of_examination: list[str]
) -> None:
    assert train_small(tmp_path, *of_run) == 0
    assert eval.main([str(CONFIGS / "eval.yaml"), f"run={tmp_path}", *of_examination]) == 0
    (examined,) = (tmp_path / "evaluations").iterdir()
    rows = (examined / "probes.csv").read_text().splitlines()
    assert len(rows) == 3 and all(row.startswith("next state,") for row in rows[1:])
    assert (examined / "causal.csv").exists()
