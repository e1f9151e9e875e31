"""Interventions act at their step, and a run stopped anywhere around one ends with the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor, nn

from nanollama.data.batch import Batch
from nanollama.errors import Preempted, UserError
from nanollama.model import ModelConfig, build_model
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.monitor.origin import read_origins
from nanollama.monitor.run_folder import TrainResult, open_run
from nanollama.training.intervention_config import InterventionConfig
from nanollama.training.interventions import build_interventions, select
from nanollama.training.loop import train
from nanollama.training.loss import next_token_loss
from tests.toy_training import (
    VOCAB_SIZE,
    ToyModel,
    ToyStream,
    rows,
    run_toy,
    same_end,
    toy_config,
    toy_loss,
)

N_STEPS = 12


def model_of(seed: int = 0, d_model: int = 8) -> nn.Module:
    shape = ModelConfig(
        implementation="transformer", vocab_size=VOCAB_SIZE, d_model=d_model, n_layers=2, n_heads=2
    )
    return build_model(shape, torch.Generator().manual_seed(seed))


def built(*configs: dict[str, Any]) -> list[Any]:
    sections = TypeAdapter(tuple[InterventionConfig, ...]).validate_python(configs)
    return build_interventions(sections, seed=0)


def run(folder: Path, *configs: dict[str, Any], model: nn.Module | None = None, **parts: Any) -> TrainResult:
    parts = {"loss_fn": next_token_loss, "evaluators": [], **parts}
    settings = {"n_steps": parts.pop("n_steps", N_STEPS), "checkpoint": {"every": 1, "keep": None}}
    settings |= parts.pop("training", {})
    return run_toy(
        toy_config(folder, **settings), model=model or model_of(), interventions=built(*configs), **parts
    )


def weights(folder: Path, step: int) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "checkpoints" / f"step_{step:08d}" / "model.safetensors")


def moved(folder: Path, first: int, last: int) -> set[str]:
    """Names of the parameters that differ between two checkpoints."""
    before, after = weights(folder, first), weights(folder, last)
    return {name for name in before if not torch.equal(before[name], after[name])}


FREEZE = {"implementation": "freeze", "parameters": ["*"], "but": ["blocks.1.*"], "at_step": 4}
AGAIN = {"implementation": "reinitialize", "parameters": ["blocks.1.mlp.*"], "at_step": 6}


def test_frozen_parameters_stay_from_their_step_on(tmp_path: Path) -> None:
    run(tmp_path, FREEZE)
    names = set(dict(model_of().named_parameters()))
    assert moved(tmp_path, 3, 4) == names
    assert moved(tmp_path, 4, N_STEPS) == {name for name in names if name.startswith("blocks.1.")}


def test_frozen_from_the_start(tmp_path: Path) -> None:
    run(tmp_path, {"implementation": "freeze", "parameters": ["embedding*", "*norm*"]})
    before = dict(model_of().named_parameters())
    after = weights(tmp_path, N_STEPS)
    stay = {name for name in before if torch.equal(before[name], after[name])}
    assert stay == {name for name in before if name.startswith("embedding") or "norm" in name}


def test_parameters_are_drawn_anew_and_their_moments_forgotten(tmp_path: Path) -> None:
    learning = {"training": {"optimizer": {"learning_rate": 1e-6}}}
    run(tmp_path, AGAIN, **learning)
    before, after = weights(tmp_path, 6), weights(tmp_path, 7)
    for name in before:
        distance = float((before[name] - after[name]).abs().max())
        assert (distance > 1e-2) == name.startswith("blocks.1.mlp."), name
    assert after["blocks.1.mlp.down.weight"].std() == pytest.approx((4 * 8) ** -0.5, rel=0.3)
    optimizer = torch.load(tmp_path / "checkpoints" / "step_00000007" / "optimizer.pt", weights_only=True)
    assert {float(state["step"]) for state in optimizer["state"].values()} == {1.0, 7.0}


def test_starting_from_another_run(tmp_path: Path) -> None:
    run(tmp_path / "source", model=model_of(seed=5))
    frozen = {"implementation": "freeze", "but": ["head*"]}
    load = {"implementation": "load", "run": str(tmp_path / "source"), "but": ["head*"]}
    run(tmp_path / "target", load, frozen)
    source, target = weights(tmp_path / "source", N_STEPS), weights(tmp_path / "target", 1)
    assert {name for name in source if not torch.equal(source[name], target[name])} == {"head.weight"}
    named = {**load, "run": str(tmp_path / "source" / "checkpoints" / "step_00000003")}
    run(tmp_path / "early", named, frozen)
    early = weights(tmp_path / "early", 1)
    assert torch.equal(early["embedding.weight"], weights(tmp_path / "source", 3)["embedding.weight"])


def test_patterns_add_up_and_each_exception_counts() -> None:
    model = model_of()
    patterns = {"parameters": ["blocks.0.*", "head*"], "but": ["*norm*", "*mlp*"], "at_step": 1}
    (freeze,) = built({"implementation": "freeze", **patterns})
    assert set(select(model, freeze.config, "interventions.0")) == {
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.output.weight",
        "head.weight",
    }


def test_weights_are_drawn_by_seed_and_by_section() -> None:
    sections = TypeAdapter(tuple[InterventionConfig, ...]).validate_python((AGAIN, AGAIN))
    drawn = []
    for seed in (0, 1):
        for reinitialize in build_interventions(sections, seed):
            model = model_of()
            reinitialize.change_weights(model, torch.optim.SGD(model.parameters()))
            drawn.append(model.get_parameter("blocks.1.mlp.down.weight").detach())
    drawn.append(model_of().get_parameter("blocks.1.mlp.down.weight").detach())
    assert len({tuple(weight.flatten().tolist()) for weight in drawn}) == 5


def test_moments_of_loaded_parameters_are_forgotten_and_missing_ones_are_named(tmp_path: Path) -> None:
    run(tmp_path / "source", n_steps=2)
    load = {"implementation": "load", "run": str(tmp_path / "source"), "but": ["head*"], "at_step": 1}
    (intervention,) = built(load)
    model = model_of(seed=3)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    intervention.change_weights(model, optimizer)
    for name, parameter in model.named_parameters():
        assert (optimizer.state[parameter]["step"] == 0) == (name != "head.weight"), name
    deep = ModelConfig(vocab_size=VOCAB_SIZE, d_model=8, n_layers=3, n_heads=2)
    with pytest.raises(UserError, match=r"step_00000002 has no parameter blocks\.2\..*, which the model has"):
        intervention.check(build_model(deep, torch.Generator()))


class SecondNameFirst(nn.Module):
    """A tied matrix has the name of the other in a file: of several, the first in the alphabet is written."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 3, bias=False)
        self.a_head = nn.Linear(4, 3, bias=False)
        self.a_head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, generator=torch.Generator().manual_seed(seed))


def test_a_tied_matrix_is_loaded_by_whatever_name_it_was_saved(tmp_path: Path) -> None:
    source, target = SecondNameFirst(0), SecondNameFirst(1)
    optimizer = torch.optim.SGD(source.parameters())
    path = Checkpointer(tmp_path / "checkpoints").save(1, source, optimizer, {})
    assert set(load_file(path / "model.safetensors")) == {"a_head.weight"}
    (intervention,) = built({"implementation": "load", "run": str(tmp_path)})
    intervention.check(target)
    intervention.change_weights(target, optimizer)
    assert torch.equal(target.embedding.weight, source.embedding.weight)


class StopAt:
    """The loss; asks its own process to stop while it computes a step."""

    def __init__(self, step: int) -> None:
        self.step, self.calls = step, 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if self.calls == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)
        return next_token_loss(model, batch)


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6, 7, 11])
def test_a_run_goes_on_across_interventions_bit_for_bit(tmp_path: Path, stop: int) -> None:
    run(tmp_path / "source", model=model_of(seed=5), n_steps=2)
    load = {"implementation": "load", "run": str(tmp_path / "source"), "but": ["head*"], "at_step": 5}
    configs = (FREEZE, AGAIN, load)
    run(tmp_path / "whole", *configs)
    with pytest.raises(Preempted, match=f"Stopped after step {stop} of {N_STEPS}"):
        run(tmp_path / "cut", *configs, loss_fn=StopAt(stop))
    if stop > 5:
        shutil.rmtree(tmp_path / "source")  # what was loaded is in the checkpoint
    run(tmp_path / "cut", *configs, model=model_of(seed=9))
    assert same_end(tmp_path / "whole", tmp_path / "cut")
    assert [row["step"] for row in rows(tmp_path / "cut")] == [1, 2, 4, 6, 8, 10, 12]


def test_sgd_also_goes_on(tmp_path: Path) -> None:
    sgd = {"training": {"optimizer": {"implementation": "sgd", "momentum": 0.9, "learning_rate": 0.1}}}
    run(tmp_path / "whole", AGAIN, **sgd)
    with pytest.raises(Preempted):
        run(tmp_path / "cut", AGAIN, loss_fn=StopAt(7), **sgd)
    run(tmp_path / "cut", AGAIN, **sgd)
    assert same_end(tmp_path / "whole", tmp_path / "cut")
    losses = [row["loss"] for row in rows(tmp_path / "whole")]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"implementation": "freeze", "parameters": ["blokcs.1.mlp.up.weight"]},
            r"interventions\.0\.parameters: 'blokcs\.1\.mlp\.up\.weight' matches no parameter of the model",
        ),
        (
            {"implementation": "freeze", "but": ["hed*"]},
            r"interventions\.0\.but: 'hed\*' matches no parameter",
        ),
        (
            {"implementation": "freeze"},
            r"interventions\.0 freezes every parameter that still learns: nothing is left to learn\.",
        ),
        (
            {"implementation": "reinitialize", "parameters": ["head*"], "but": ["head*"]},
            r"interventions\.0\.but leaves no parameter out of \['head\*'\]: nothing to do\.",
        ),
        (
            {"implementation": "load", "run": "runs/nowhere"},
            r"interventions\.0\.run: there is no run folder runs/nowhere to start from; train it first",
        ),
    ],
)
def test_wrong_interventions_are_refused_before_the_first_step(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, {**config, "at_step": 8})
    assert not rows(tmp_path)


def test_interventions_that_together_leave_nothing_to_learn_are_refused(tmp_path: Path) -> None:
    rest = {"implementation": "freeze", "but": ["blocks.1.*"], "at_step": 3}
    with pytest.raises(UserError, match=r"interventions\.0 freezes every parameter that still learns"):
        run(tmp_path / "never", {**rest, "but": ["head*"], "at_step": 9}, {**rest, "parameters": ["head*"]})
    run(tmp_path / "some", rest, {**rest, "at_step": 9}, n_steps=12)
    assert len(rows(tmp_path / "some")) > 0
    assert not rows(tmp_path / "never")


def test_a_run_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "source", n_steps=2)
    load = {"implementation": "load", "run": str(tmp_path / "source")}
    expected = r"embedding\.weight has shape \(11, 8\) in .*step_00000002 and \(11, 16\) in the model"
    with pytest.raises(UserError, match=expected):
        run(tmp_path / "wide", load, model=model_of(d_model=16))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no intact checkpoint: expected a run folder"):
        run(tmp_path / "other", {**load, "run": str(tmp_path / "empty")})
    manifest = tmp_path / "source" / "checkpoints" / "step_00000002" / "manifest.json"
    manifest.write_text(json.dumps({"version": 99}))
    named = {**load, "run": str(manifest.parent)}
    with pytest.raises(UserError, match=r"step_00000002 is damaged"):
        run(tmp_path / "third", named)


def test_an_earlier_step_of_a_finished_run_is_not_loaded_unless_it_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    run(source, n_steps=3)
    load = {"implementation": "load", "run": str(source)}
    run(tmp_path / "first", load, n_steps=1)
    assert f"interventions.0 loads {source}, after step 3 of its" in (tmp_path / "first/log.txt").read_text()
    weights_file = source / "checkpoints/step_00000003/model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1])
    expected = r"source finished at step 3, but its newest intact checkpoint is step_00000002: train it anew"
    with pytest.raises(UserError, match=expected):
        run(tmp_path / "second", load, n_steps=1)
    early = {**load, "run": str(source / "checkpoints/step_00000002")}
    run(tmp_path / "second", early, n_steps=1)
    assert "step_00000002, after step 2 of" in (tmp_path / "second/log.txt").read_text()


def test_what_a_run_has_loaded_is_noted_and_seen_to_be_gone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    load = {"implementation": "load", "run": str(source), "at_step": 1}
    run(source, n_steps=3)
    run(target, load, n_steps=2)
    (origin,) = read_origins(target).values()
    assert (origin.run, origin.at_step, origin.step, origin.lost()) == (str(source), 1, 3, None)
    shutil.rmtree(source)
    assert origin.lost() is None, "nothing contradicts it"
    run(source, n_steps=2)
    assert origin.lost() == "it had done 3 steps then, and 2 now"
    shutil.rmtree(source)
    run(source, n_steps=3, model=model_of(seed=7))
    assert origin.lost() == "it was trained anew since"
    shutil.rmtree(source / "checkpoints")
    assert origin.lost() is None
    (source / "result.json").write_text(json.dumps({"status": "finished", "step": 3, "config_hash": "other"}))
    assert origin.lost() == "it has another config now"


def test_a_run_does_not_go_on_from_what_was_trained_anew_since(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    load, soon = {"implementation": "load", "run": str(source)}, {"max_minutes": 1e-9}
    run(source, n_steps=2)
    with pytest.raises(Preempted):
        run(target, load, n_steps=3, training=soon)
    shutil.rmtree(source)
    run(source, n_steps=2, model=model_of(seed=7))
    expected = f"target is stale, it began from {source}, but it was trained anew since: start it anew with"
    with pytest.raises(UserError, match=expected):
        run(target, load, n_steps=3)
    config = toy_config(target, n_steps=3, checkpoint={"every": 1, "keep": None}, overwrite=True)
    parts = {"loss_fn": next_token_loss, "evaluators": []}
    assert run_toy(config, model=model_of(), interventions=built(load), **parts).status == "finished"


def test_a_model_that_is_shared_out_is_not_intervened_in(tmp_path: Path) -> None:
    config = toy_config(tmp_path, parallel="sharded")
    freeze = built({"implementation": "freeze", "at_step": 8, "parameters": ["head*"]})
    with open_run(config, tmp_path, device="cpu") as alone:
        run = replace(alone, world=replace(alone.world, world_size=2))
        with pytest.raises(UserError, match=r"shared out over several processes: set training\.parallel="):
            train(
                run,
                config.training,
                model=ToyModel(),
                stream=ToyStream(6),
                loss_fn=toy_loss,
                interventions=freeze,
            )
