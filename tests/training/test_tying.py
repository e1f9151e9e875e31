"""Embeddings untied or tied on the way: the loss at the switch, what learns after it, resume, loading."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from nanollama.data.batch import Batch
from nanollama.errors import Preempted, UserError
from nanollama.model import ModelConfig, build_model
from nanollama.monitor.checkpoint import Checkpointer, NoOptimizer, load_training
from nanollama.training.intervention_config import InterventionConfig
from nanollama.training.interventions import build_interventions, restructure, take_moments
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig, build_optimizer
from tests.forked import finish
from tests.toy_training import VOCAB_SIZE, ToyStream, rows, run_toy, same_end, same_values, toy_config

N_STEPS, SWITCH = 12, 6
UNTIE = {"implementation": "untie", "at_step": SWITCH}
TIE = {"implementation": "tie", "at_step": SWITCH}
REDRAW = {"implementation": "reinitialize", "parameters": ["head.*"], "at_step": SWITCH}
FREEZE = {"implementation": "freeze"}
FORGET = {"implementation": "forget", "parameters": ["embedding.*"], "at_step": SWITCH}
MOMENTUM = {"implementation": "sgd", "momentum": 0.9}
MATRICES = ("embedding.weight", "head.weight")


def model_of(tied: bool = True, seed: int = 0) -> nn.Module:
    shape = ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=8, n_layers=1, n_heads=2, dropout=0.1, tied_embeddings=tied
    )
    return build_model(shape, torch.Generator().manual_seed(seed))


def built(*configs: dict[str, Any]) -> list[Any]:
    return build_interventions(TypeAdapter(tuple[InterventionConfig, ...]).validate_python(configs), seed=0)


class Losses:
    """The loss of a batch, and all that came out."""

    def __init__(self, stop: int | None = None, number: signal.Signals = signal.SIGUSR1) -> None:
        self.found: list[float] = []
        self.stop, self.number = stop, number

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = next_token_loss(model, batch)
        self.found.append(float(loss.detach()))
        if len(self.found) == self.stop:
            os.kill(os.getpid(), self.number)
        return loss


def run(folder: Path, *configs: dict[str, Any], tied: bool = True, **parts: Any) -> None:
    settings = {"checkpoint": {"every": 1, "keep": None}, "log_every": 1, **parts.pop("training", {})}
    defaults = {"model": model_of(tied), "loss_fn": next_token_loss, "evaluators": []}
    run_toy(toy_config(folder, **settings), interventions=built(*configs), **{**defaults, **parts})


def checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step_{step:08d}"


def weights(folder: Path, step: int) -> dict[str, Tensor]:
    return load_file(checkpoint(folder, step) / "model.safetensors")


def moments(folder: Path, step: int) -> list[dict[str, Tensor]]:
    """What the optimizer knows of each matrix, in its order."""
    saved = torch.load(checkpoint(folder, step) / "optimizer.pt", weights_only=True)
    return [saved["state"].get(index, {}) for index in saved["param_groups"][0]["params"]]


def test_untying_leaves_the_loss_and_then_both_matrices_learn(tmp_path: Path) -> None:
    tied, untied = Losses(), Losses()
    run(tmp_path / "tied", loss_fn=tied)
    run(tmp_path / "untied", UNTIE, loss_fn=untied)
    # The same bits up to the step, and the loss of the step that follows too; later ones differ.
    assert same_values(weights(tmp_path / "tied", SWITCH), weights(tmp_path / "untied", SWITCH))
    assert untied.found[: SWITCH + 1] == tied.found[: SWITCH + 1]
    assert untied.found[SWITCH + 1] != tied.found[SWITCH + 1]
    assert "head.weight" not in weights(tmp_path / "untied", SWITCH)
    before, first, last = (weights(tmp_path / "untied", step) for step in (SWITCH, SWITCH + 1, N_STEPS))
    assert not torch.equal(first["embedding.weight"], first["head.weight"])
    for name in MATRICES:
        assert not torch.equal(first[name], before["embedding.weight"])
        assert not torch.equal(first[name], last[name])


def test_a_tied_matrix_is_one_entry_of_the_optimizer_and_two_matrices_are_two(tmp_path: Path) -> None:
    run(tmp_path, UNTIE)
    assert len(moments(tmp_path, SWITCH + 1)) == len(moments(tmp_path, SWITCH)) + 1
    run(tmp_path / "back", TIE, tied=False)
    assert len(moments(tmp_path / "back", SWITCH + 1)) == len(moments(tmp_path / "back", SWITCH)) - 1
    assert len(moments(tmp_path / "back", SWITCH + 1)) == len(moments(tmp_path, SWITCH))


def test_what_the_optimizer_knows_is_copied_or_empty(tmp_path: Path) -> None:
    counts = {}
    for kind in ("copied", "empty", "both_empty"):
        run(tmp_path / kind, {**UNTIE, "moments": kind})
        known = moments(tmp_path / kind, SWITCH + 1)
        counts[kind] = [float(known[index]["step"]) for index in (0, -1)]
    assert counts == {"copied": [7, 7], "empty": [7, 1], "both_empty": [1, 1]}
    run(tmp_path / "control", FORGET)
    assert [float(state["step"]) for state in moments(tmp_path / "control", SWITCH + 1)][:2] == [1, 7]
    assert same_values(weights(tmp_path / "control", SWITCH), weights(tmp_path / "empty", SWITCH))
    # Copied, not shared: with a zero gradient of the input, its moments would fade and the others not.
    known = moments(tmp_path / "copied", SWITCH + 1)
    assert not torch.equal(known[0]["exp_avg"], known[-1]["exp_avg"])


def test_a_matrix_drawn_anew_is_the_control_that_hurts(tmp_path: Path) -> None:
    losses = Losses(), Losses()
    run(tmp_path / "copied", UNTIE, loss_fn=losses[0])
    run(tmp_path / "drawn", UNTIE, REDRAW, loss_fn=losses[1])
    assert losses[0].found[:SWITCH] == losses[1].found[:SWITCH]
    assert losses[0].found[SWITCH] != losses[1].found[SWITCH]
    before, after = weights(tmp_path / "drawn", SWITCH), weights(tmp_path / "drawn", SWITCH + 1)
    distances = [float((after[name] - before["embedding.weight"]).norm()) for name in MATRICES]
    assert distances[1] > 3 * distances[0]


def test_tying_takes_the_output_matrix(tmp_path: Path) -> None:
    run(tmp_path, TIE, tied=False, training={"optimizer": {"learning_rate": 1e-7}})
    before, after = weights(tmp_path, SWITCH), weights(tmp_path, SWITCH + 1)
    assert "head.weight" not in after
    torch.testing.assert_close(after["embedding.weight"], before["head.weight"], rtol=0, atol=1e-5)
    assert not torch.allclose(after["embedding.weight"], before["embedding.weight"], atol=1e-2)
    torch.testing.assert_close(
        moments(tmp_path, SWITCH + 1)[0]["exp_avg_sq"],
        moments(tmp_path, SWITCH)[-1]["exp_avg_sq"],
        rtol=0.2,
        atol=1e-3,
    )


@pytest.mark.parametrize(("frozen", "learns"), [("embedding.*", True), ("head.*", False)])
def test_the_tied_matrix_learns_where_that_of_the_output_did(
    tmp_path: Path, frozen: str, learns: bool
) -> None:
    both = [{**FREEZE, "parameters": [frozen]}, TIE]
    run(tmp_path / "whole", *both, tied=False)
    before, last = weights(tmp_path / "whole", SWITCH), weights(tmp_path / "whole", N_STEPS)
    assert torch.equal(before["head.weight"], last["embedding.weight"]) != learns
    with pytest.raises(Preempted):
        run(tmp_path / "cut", *both, tied=False, loss_fn=Losses(SWITCH + 2))
    run(tmp_path / "cut", *both, tied=False)
    assert same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("stop", [3, SWITCH, SWITCH + 1, SWITCH + 2, 11])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, stop: int, tied: bool) -> None:
    back = {**(TIE if tied else UNTIE), "at_step": 9}  # written first, acts second
    both = [back, UNTIE if tied else TIE]
    run(tmp_path / "whole", *both, tied=tied)
    with pytest.raises(Preempted):
        run(tmp_path / "cut", *both, tied=tied, loss_fn=Losses(stop))
    run(tmp_path / "cut", *both, tied=tied)
    assert same_end(tmp_path / "whole", tmp_path / "cut")


def killed(folder: Path, stop: int) -> None:
    run(folder, UNTIE, loss_fn=Losses(stop, signal.SIGKILL))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [SWITCH, SWITCH + 1, SWITCH + 2])
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    run(tmp_path / "whole", UNTIE)
    assert finish(killed, tmp_path / "cut", stop) == -signal.SIGKILL
    assert rows(tmp_path / "cut")[-1]["step"] == stop - 1
    run(tmp_path / "cut", UNTIE)
    assert same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_model_is_given_the_parameters_of_the_checkpoint_that_it_is_to_read() -> None:
    interventions = built({**TIE, "at_step": 9}, UNTIE)
    shapes = []
    for step in (SWITCH, SWITCH + 1, 9, 10):
        model = model_of()
        restructure(interventions, model, step)
        shapes.append(model.is_tied)
    assert shapes == [True, False, False, True]


def test_a_run_starts_from_another_with_its_moments(tmp_path: Path) -> None:
    class Later(ToyStream):
        """What comes after the first steps."""

        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            return super().batch(step + SWITCH, rank, world_size)

    constant = {"optimizer": {"schedule": "constant", "learning_rate": 0.03}}
    plain = {"model": model_of()}
    plain["model"].dropout.p = 0.0
    for block in plain["model"].layers:
        block.dropout.p = 0.0
    once = Losses()
    run(tmp_path / "whole", training=constant, loss_fn=once, **plain)
    load = {
        "implementation": "load",
        "run": str(checkpoint(tmp_path / "whole", SWITCH)),
        "optimizer": True,
    }
    for model_seed, extra in ((3, []), (4, [{**UNTIE, "at_step": 0}])):
        model, branch = model_of(seed=model_seed), Losses()
        model.dropout.p = model.layers[0].dropout.p = 0.0
        folder = tmp_path / f"branch{model_seed}"
        run(folder, load, *extra, model=model, stream=Later(6), training=constant, loss_fn=branch)
        n_equal = 1 if extra else N_STEPS - SWITCH
        assert branch.found[:n_equal] == once.found[SWITCH : SWITCH + n_equal]
    assert {float(state["step"]) for state in moments(tmp_path / "branch4", 1)} == {SWITCH + 1}
    forgetful, other = {**load, "optimizer": False}, Losses()
    model = model_of()
    model.dropout.p = model.layers[0].dropout.p = 0.0
    run(tmp_path / "other", forgetful, model=model, stream=Later(6), training=constant, loss_fn=other)
    assert other.found[0] == once.found[SWITCH] and other.found[1] != once.found[SWITCH + 1]


@pytest.mark.parametrize(
    ("tied", "configs", "message"),
    [
        (False, [UNTIE], r"interventions\.0: the embeddings are not tied at step 6, so cannot be untied"),
        (True, [TIE], r"interventions\.0: the embeddings are tied already at step 6: set model\.tied_emb"),
        (True, [UNTIE, {**UNTIE, "at_step": 9}], r"interventions\.1: the embeddings are not tied at step 9"),
        (False, [{**FREEZE, "but": ["head.*"]}, TIE, {**FREEZE, "at_step": 9}], "interventions.2 freezes"),
        (
            False,
            [{**FREEZE, "but": ["embedding.*"]}, TIE],
            r"interventions\.1 ties what alone still learned: nothing is left to learn",
        ),
        (True, [REDRAW, UNTIE], r"interventions\.0\.parameters: 'head\.\*' matches no parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_first_step(
    tmp_path: Path, tied: bool, configs: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, *configs, tied=tied)
    assert not rows(tmp_path)


def test_a_checkpoint_of_two_matrices_is_not_read_into_one(tmp_path: Path) -> None:
    run(tmp_path / "source", UNTIE)
    load = {"implementation": "load", "run": str(tmp_path / "source")}
    with pytest.raises(UserError, match=r"the embeddings are two matrices in .* and one in the model"):
        run(tmp_path / "tied", load)
    run(tmp_path / "untied", load, tied=False)
    source, target = weights(tmp_path / "source", N_STEPS), weights(tmp_path / "untied", 1)
    distance = max(float((source[name] - target[name]).abs().max()) for name in MATRICES)
    assert distance < 0.05
    other = {**load, "run": str(checkpoint(tmp_path / "source", SWITCH)), "optimizer": True}
    with pytest.raises(UserError, match=r"has no parameter head\.weight, which the model has"):
        run(tmp_path / "wrong", other, tied=False)


def test_moments_are_taken_of_all_parameters_or_none(tmp_path: Path) -> None:
    load = {"implementation": "load", "run": str(tmp_path), "optimizer": True, "but": ["head.*"]}
    with pytest.raises(ValidationError, match="optimizer = true is for all parameters"):
        built(load)
    run(tmp_path / "sgd", training={"optimizer": {"implementation": "sgd", "momentum": 0.9}})
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(3, 3))
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(UserError, match=r"interventions\.0\.optimizer: the optimizer of .* knows other"):
        take_moments(optimizer, checkpoint(tmp_path / "sgd", 2), "interventions.0")


def test_moments_are_taken_to_where_the_parameters_are(tmp_path: Path) -> None:
    run(tmp_path)
    model = model_of().to("meta")
    model.tie()  # a move there makes two matrices of one
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.5), model)
    take_moments(optimizer, checkpoint(tmp_path, 2), "interventions.0")
    assert all(
        value.device.type == "meta"
        for parameter in model.parameters()
        for name, value in optimizer.state[parameter].items()
        if name != "step"
    )
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


@pytest.mark.parametrize("kind", ["copied", "empty", "both_empty"])
def test_sgd_with_momentum_unties_too(tmp_path: Path, kind: str) -> None:
    run(tmp_path, {**UNTIE, "moments": kind}, training={"optimizer": MOMENTUM})
    first, last = weights(tmp_path, SWITCH), weights(tmp_path, N_STEPS)
    assert all(not torch.equal(first["embedding.weight"], last[name]) for name in MATRICES)


@pytest.mark.parametrize("there", [MOMENTUM, {}])
def test_moments_of_another_kind_of_optimizer_are_refused(tmp_path: Path, there: dict[str, Any]) -> None:
    here = {} if there else MOMENTUM
    run(tmp_path / "source", training={"optimizer": there})
    load = {"implementation": "load", "run": str(tmp_path / "source"), "optimizer": True, "at_step": 3}
    with pytest.raises(UserError, match=r"interventions\.0\.optimizer: .* by another optimizer than this"):
        run(tmp_path / "branch", load, training={"optimizer": here})
    assert not rows(tmp_path / "branch")


@pytest.mark.parametrize(
    "saved", [{}, {"state": {}, "param_groups": [{"params": []}]}, NoOptimizer().state_dict()]
)
@pytest.mark.parametrize("here", [MOMENTUM, {}])
def test_a_run_that_was_saved_without_an_optimizer_has_no_moments_to_take(
    tmp_path: Path, saved: dict[str, Any], here: dict[str, Any]
) -> None:
    nothing = SimpleNamespace(state_dict=lambda: saved)
    path = Checkpointer(tmp_path / "source" / "checkpoints").save(0, model_of(), nothing, {})
    load = {"implementation": "load", "run": str(tmp_path / "source"), "optimizer": True, "at_step": 3}
    with pytest.raises(UserError, match=r"interventions\.0\.optimizer: .* saved without an optimizer"):
        run(tmp_path / "branch", load, training={"optimizer": here})
    assert not rows(tmp_path / "branch")
    with pytest.raises(UserError, match="without an optimizer, so its run cannot be gone on with"):
        load_training(path, build_optimizer(OptimizerConfig(), model_of()))
    assert load_training(path, NoOptimizer()) == {}
