"""What the loop refuses in a sentence, instead of leaving it undone or failing later on."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nanollama import api
from nanollama.measures import FACTS, TAKEN
from nanollama.training.intervention_config import FreezeConfig
from tests.toy_training import ToyEvaluator, rows, run_toy, toy_config

VOCAB_SIZE = 5


class Counting:
    """Rows 0 1 2 3 4 0 1 ..., of so many tokens in all."""

    def __init__(self, n_ids: int = VOCAB_SIZE) -> None:
        self.n_ids = n_ids

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> api.Batch:
        rows = (np.arange(2)[:, None] + step + np.arange(8)) % self.n_ids
        return api.collate(list(rows[rank::world_size]), [np.ones(8, dtype=bool)] * len(rows))


def run_config(folder: Path, **changes: Any) -> api.TrainingRunConfig:
    """A run of two steps of a tiny transformer."""
    training = {"n_steps": 2, "batch_size": 2, "device": "cpu", **changes.pop("training", {})}
    return api.TrainingRunConfig(
        study="toy",
        name="toy",
        run_dir=folder,
        model=api.ModelConfig(
            implementation="transformer", vocab_size=VOCAB_SIZE, d_model=8, n_layers=1, n_heads=1
        ),
        training=api.TrainingConfig(**training),
        **changes,
    )


def train(config: api.TrainingRunConfig, stream: api.Stream, **options: Any) -> api.TrainResult:
    """Train by the parts of the library, as a script may, and say nothing that the config says."""
    model = api.build_model(config.model, torch.Generator().manual_seed(0))
    with api.open_run(config, config.folder) as run:
        return api.train(
            run, config.training, model=model, stream=stream, loss_fn=api.next_token_loss, **options
        )


class Measures:
    """An evaluator that returns what it is given."""

    def __init__(self, measures: Any) -> None:
        self.measures = measures

    def evaluate(self, model: nn.Module, step: int) -> dict[str, float]:
        return self.measures


@pytest.mark.parametrize("name", sorted(TAKEN | {"dropout"}))  # the last is a key of the toy's config
def test_a_measure_takes_no_name_of_what_a_run_tells_itself(tmp_path: Path, name: str) -> None:
    message = rf"The evaluator Measures reports '{name}', which is already .* such as 'test_{name}_nats'"
    with pytest.raises(api.UserError, match=message):
        run_toy(toy_config(tmp_path, n_steps=1), evaluators=[Measures({"right": 1.0, name: 9.75})])
    assert {*FACTS, "loss"} < TAKEN
    # Nothing is lost: with another name the run goes on from its last step.
    result = run_toy(toy_config(tmp_path, n_steps=1), evaluators=[Measures({"right": 1.0, "other": 9.75})])
    assert result.metrics == {"loss": rows(tmp_path)[-1]["loss"], "right": 1.0, "other": 9.75}


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        ({"accuracy": torch.tensor(0.5)}, "reports 'accuracy' as a Tensor: expected a float"),
        ({"accuracy": np.float32(0.5)}, "reports 'accuracy' as a float32: expected a float"),
        ({"accuracy": "high"}, "reports 'accuracy' as a str: expected a float"),
        (0.5, "returned a float: expected numbers by name"),
        (None, "returned a NoneType: expected numbers by name"),
    ],
)
def test_who_returned_no_numbers_is_named(tmp_path: Path, measures: Any, said: str) -> None:
    with pytest.raises(api.UserError, match=f"The evaluator Measures {said}"):
        run_toy(toy_config(tmp_path, n_steps=1), evaluators=[ToyEvaluator(), Measures(measures)])


def test_numbers_of_every_kind_are_measures(tmp_path: Path) -> None:
    measures = {"n": 3, "share": np.float64(0.5), "is_right": True, "undefined": math.nan, "absent": None}
    run_toy(toy_config(tmp_path, n_steps=1), evaluators=[Measures(measures)])
    (row,) = rows(tmp_path, "evals.jsonl")
    assert row == {"step": 1, **measures, "undefined": None}


@pytest.mark.parametrize(("n_ids", "where"), [(9, "inputs"), (8, "targets")])
def test_token_ids_that_a_model_does_not_have_are_refused(tmp_path: Path, n_ids: int, where: str) -> None:
    class Last(Counting):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> api.Batch:
            last = np.arange(8)[None] % VOCAB_SIZE
            last[0, -1 if where == "targets" else 2] = n_ids - 1
            return api.collate(list(last), [np.ones(8, dtype=bool)])

    message = rf"first batch has the token id {n_ids - 1} in its {where}, .*vocab_size of 5: .* from 0 to 4"
    with pytest.raises(api.UserError, match=message):
        train(run_config(tmp_path, training={"batch_size": 1}), Last())


def test_interventions_of_the_config_are_not_left_out_in_silence(tmp_path: Path) -> None:
    freeze = FreezeConfig(implementation="freeze", at_step=0, parameters=("*",))
    config = run_config(tmp_path, interventions=(freeze,))
    with pytest.raises(api.UserError, match=r"has interventions, and `train` was given none, .*train_run"):
        train(config, Counting())


def test_a_run_is_opened_with_the_device_and_the_overwriting_of_its_config(tmp_path: Path) -> None:
    with pytest.raises(api.UserError, match="The device cuda:63 needs GPU number 63"):
        train(run_config(tmp_path / "device", training={"device": "cuda:63"}), Counting())
    config = run_config(tmp_path / "run")
    assert train(config, Counting()).status == "finished"
    made = (tmp_path / "run" / "metrics.jsonl").stat().st_ino
    train(config, Counting())
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_ino == made
    train(run_config(tmp_path / "run", overwrite=True), Counting())
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_ino != made


def test_a_script_that_leaves_all_to_the_config_does_all_of_it(tmp_path: Path) -> None:
    """As the README's does: of two seeds, other weights."""
    weights = []
    for seed in (0, 1):
        config = run_config(tmp_path / str(seed), training={"seed": seed})
        api.train_run(config, lambda config: nullcontext(api.Parts(Counting(), data_hashes={})))
        weights.append(api.load_run(api.TrainingRunConfig, config.folder).model.state_dict())
    assert not all(torch.equal(*pair) for pair in zip(*(each.values() for each in weights), strict=True))
