"""The loop: rows, evaluations, stopping, refusing to go on with what is not a number."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nanollama.data.batch import IGNORE, Batch
from nanollama.distributed import World
from nanollama.errors import Preempted, UserError
from nanollama.measures import say_measures
from nanollama.monitor.run_folder import open_run
from nanollama.training.config import TrainingConfig
from nanollama.training.learner import Learner
from nanollama.training.loop import Diverged, train
from nanollama.training.optim import OptimizerConfig, learning_rate
from tests.toy_training import (
    ToyEvaluator,
    ToyModel,
    ToyStream,
    newest,
    rows,
    run_toy,
    same_end,
    toy_config,
    toy_loss,
)

CPU = World(torch.device("cpu"))


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_unequal_micro_batches_are_one_batch(dtype: torch.dtype, tolerance: float) -> None:
    batch = ToyStream(batch_size=7).batch(3)
    counts = [part.n_loss_tokens for part in batch.split(3)]
    assert len(set(counts)) > 1, "parts must differ, or a mean of means would pass"

    def sums_and_gradients(n_accumulation: int) -> tuple[float, list[Tensor]]:
        model = ToyModel().to(dtype)
        learner = Learner(model, toy_loss, OptimizerConfig(), CPU, n_accumulation=n_accumulation)
        return learner.backward(batch).loss_nats, gradients(model)

    whole_loss, whole = sums_and_gradients(1)
    cut_loss, cut = sums_and_gradients(3)
    assert cut_loss == pytest.approx(whole_loss, rel=tolerance)
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_a_batch_of_few_rows_has_fewer_micro_batches() -> None:
    batch = ToyStream(3).batch(0)  # as when many documents are packed into three rows
    gradient = {}
    for n_parts in (1, 8):
        learner = Learner(ToyModel(), toy_loss, OptimizerConfig(), CPU, n_accumulation=n_parts)
        learner.backward(batch)
        gradient[n_parts] = gradients(learner.model)
    torch.testing.assert_close(gradient[8], gradient[1])


def test_every_process_needs_an_example_for_each_micro_batch(tmp_path: Path) -> None:
    config = toy_config(tmp_path, batch_size=5, n_accumulation=3)
    with open_run(config, tmp_path, device="cpu") as alone:
        run = replace(alone, world=replace(alone.world, world_size=2))
        with pytest.raises(UserError, match=r"batch_size = 5 is too small: .* 3 micro-batches in each of 2"):
            train(run, config.training, model=ToyModel(), stream=ToyStream(5), loss_fn=toy_loss)


def test_gradient_is_that_of_the_mean_loss_per_token() -> None:
    batch = ToyStream(batch_size=5).batch(0)
    model, reference = ToyModel(), ToyModel()
    Learner(model, toy_loss, OptimizerConfig(), CPU).backward(batch)
    (toy_loss(reference, batch) / (batch.targets != IGNORE).sum()).backward()
    for one, other in zip(gradients(model), gradients(reference), strict=True):
        torch.testing.assert_close(one, other)


def test_clip_scales_the_whole_gradient() -> None:
    model = ToyModel()
    learner = Learner(model, toy_loss, OptimizerConfig(clip_grad_norm=0.01), CPU)
    learner.backward(ToyStream(4).batch(0))
    before = torch.cat([gradient.flatten() for gradient in gradients(model)])
    norm = learner.clip()
    after = torch.cat([gradient.flatten() for gradient in gradients(model)])
    assert norm == pytest.approx(float(before.norm()), rel=1e-6)
    torch.testing.assert_close(after, before * 0.01 / before.norm(), rtol=1e-4, atol=1e-9)


def test_no_clip_when_none() -> None:
    model = ToyModel()
    learner = Learner(model, toy_loss, OptimizerConfig(clip_grad_norm=None), CPU)
    learner.backward(ToyStream(4).batch(0))
    before = gradients(model)
    assert learner.clip() > 0
    assert all(torch.equal(*pair) for pair in zip(before, gradients(model), strict=True))


def test_float16_gradients_are_clipped_by_their_own_norm() -> None:
    norms = []
    for precision in ("float32", "float16"):
        model = ToyModel()
        learner = Learner(model, toy_loss, OptimizerConfig(clip_grad_norm=0.01), CPU, precision=precision)
        learner.backward(ToyStream(4).batch(0))
        norms.append(learner.clip())
        clipped = torch.cat([gradient.flatten() for gradient in gradients(model)])
        assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)
    assert norms[1] == pytest.approx(norms[0], rel=0.02), "not of the gradient of the scaled loss"


def test_rows_hold_what_the_contract_promises(tmp_path: Path) -> None:
    result = run_toy(toy_config(tmp_path, n_steps=5, log_every=2))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    table = [json.loads(line) for line in lines]
    assert [row["step"] for row in table] == [1, 2, 4, 5]
    promised = {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "examples_per_second",
        "elapsed_seconds",
    }
    for row in table:
        assert promised <= row.keys()
        assert row["flops_per_second"] > 0 and row["peak_memory_mib"] > 0
        assert row["lr"] == learning_rate(toy_config(tmp_path).training.optimizer, row["step"] - 1, 5)
    assert [row["n_examples_seen"] for row in table] == [6, 12, 24, 30]
    assert (result.status, result.step, result.n_params) == ("finished", 5, 11 * 8 + 8 + 72)
    written = json.loads((tmp_path / "result.json").read_text())
    assert list(written) == ["status", "step", "seconds", "n_params", "metrics", "config_hash"]
    assert written["metrics"]["loss"] == table[-1]["loss"] and "weight_norm" in written["metrics"]


def test_logged_loss_is_the_mean_over_tokens_since_the_last_row(tmp_path: Path) -> None:
    config = toy_config(tmp_path, n_steps=3, log_every=3, optimizer={"learning_rate": 1e-12})
    run_toy(config)
    model, stream = ToyModel(), ToyStream(6)
    batches = [stream.batch(step) for step in (1, 2)]
    total = sum(toy_loss(model, batch).item() for batch in batches)
    expected = total / sum(batch.n_loss_tokens for batch in batches)
    assert rows(tmp_path)[-1]["loss"] == pytest.approx(expected, rel=1e-6)


def test_it_learns(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path, n_steps=60))
    losses = [row["loss"] for row in rows(tmp_path)]
    assert losses[0] > 2.0 and losses[-1] < 0.7


def test_two_runs_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    for name in ("one", "other"):
        torch.manual_seed(len(name))  # the state of the caller's generator does not matter
        run_toy(toy_config(tmp_path / name, dropout=0.2, eval_every=3))
    assert same_end(tmp_path / "one", tmp_path / "other")
    run_toy(toy_config(tmp_path / "seed", dropout=0.2, eval_every=3, seed=1))
    assert not same_end(tmp_path / "one", tmp_path / "seed")


def test_the_callers_generator_is_left_alone(tmp_path: Path) -> None:
    model = ToyModel(dropout=0.2)
    before = torch.get_rng_state()
    run_toy(toy_config(tmp_path), model=model)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_masks_differ_from_step_to_step(tmp_path: Path) -> None:
    draws: list[float] = []

    def drawing_loss(model: nn.Module, batch: Batch) -> Tensor:
        draws.append(float(torch.rand(())))
        return toy_loss(model, batch)

    run_toy(toy_config(tmp_path, n_steps=5), loss_fn=drawing_loss)
    assert len(set(draws)) == 5


@pytest.mark.parametrize(("every", "expected"), [(None, [10]), (4, [4, 8, 10]), (5, [5, 10]), (99, [10])])
def test_evaluations_come_when_due(tmp_path: Path, every: int | None, expected: list[int]) -> None:
    evaluator = ToyEvaluator()
    run_toy(toy_config(tmp_path, n_steps=10, eval_every=every), evaluators=[evaluator])
    assert evaluator.steps == expected
    assert [row["step"] for row in rows(tmp_path, "evals.jsonl")] == expected


def test_evaluating_does_not_change_training(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path / "often", dropout=0.2, eval_every=1))
    run_toy(toy_config(tmp_path / "never", dropout=0.2), evaluators=[])
    assert rows(tmp_path / "often") == rows(tmp_path / "never")
    assert not (tmp_path / "never" / "evals.jsonl").exists()


def test_evaluators_share_a_row_and_must_not_share_a_name(tmp_path: Path) -> None:
    class Other:
        def evaluate(self, model: nn.Module, step: int) -> dict[str, float]:
            return {"other": 1.0, "undefined": math.nan}

    run_toy(toy_config(tmp_path / "a"), evaluators=[ToyEvaluator(), Other()])
    (row,) = rows(tmp_path / "a", "evals.jsonl")
    assert row["other"] == 1.0 and row["undefined"] is None and "weight_norm" in row
    with pytest.raises(UserError, match=r"Two evaluators report other, undefined: each needs its own name\."):
        run_toy(toy_config(tmp_path / "b"), evaluators=[Other(), Other()])


class Poisoned:
    """The toy's loss until a step, then not a number; counts the steps that reached it."""

    def __init__(self, step: int, value: float = math.nan) -> None:
        self.step, self.value, self.calls = step, value, 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        return toy_loss(model, batch) * (self.value if self.calls > self.step else 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path, value: float) -> None:
    run_toy(toy_config(tmp_path / "good", n_steps=10), evaluators=[])
    model = ToyModel()
    with pytest.raises(
        Diverged,
        match=r"Step 10 has a loss of (nan|inf) nats .* last checkpoint is of step 8\. "
        r"The batch was stream\.batch\(9, rank=0, world_size=1\)",
    ):
        run_toy(toy_config(tmp_path / "bad", n_steps=10), model=model, loss_fn=Poisoned(9, value))
    assert newest(tmp_path / "bad").name == "step_00000008"
    result = json.loads((tmp_path / "bad" / "result.json").read_text())
    assert (result["status"], result["step"]) == ("diverged", 9)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert "Diverged: Step 10" in (tmp_path / "bad" / "log.txt").read_text()

    run_toy(toy_config(tmp_path / "bad", n_steps=10), evaluators=[])  # mended: goes on from step 8
    assert same_end(tmp_path / "good", tmp_path / "bad")


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    def infinite_slope(model: nn.Module, batch: Batch) -> Tensor:
        weight = model.get_parameter("norm.weight")
        return toy_loss(model, batch) + (weight - weight.detach()).clamp(min=0).sqrt().sum()

    with pytest.raises(Diverged, match=r"a gradient norm of (nan|inf)"):
        run_toy(toy_config(tmp_path), loss_fn=infinite_slope)
    assert not (tmp_path / "checkpoints").exists()


def test_a_batch_without_loss_is_refused(tmp_path: Path) -> None:
    class Silent(ToyStream):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            batch = super().batch(step, rank, world_size)
            return Batch(batch.input_ids, torch.full_like(batch.targets, IGNORE), None, None, 0, 9, 6)

    with pytest.raises(ValueError, match="No token of the batch carries loss"):
        run_toy(toy_config(tmp_path), stream=Silent(6))


def test_an_error_of_the_stream_surfaces_in_the_loop(tmp_path: Path) -> None:
    class Broken(ToyStream):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            if step == 6:
                raise OSError("the disk is gone")
            return super().batch(step, rank, world_size)

    with pytest.raises(OSError, match="the disk is gone"):
        run_toy(toy_config(tmp_path), stream=Broken(6))
    assert newest(tmp_path).name == "step_00000004"
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 4, 6]


def test_max_minutes_stops_and_saves(tmp_path: Path) -> None:
    with pytest.raises(
        Preempted, match=r"Stopped after step 1 of 12 \(max_minutes is over\).*run the same command"
    ):
        run_toy(toy_config(tmp_path, max_minutes=1e-9))
    assert newest(tmp_path).name == "step_00000001"
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "preempted"


def test_float16_skips_steps_that_overflow(tmp_path: Path) -> None:
    config = toy_config(tmp_path, precision="float16", n_steps=8, log_every=1)

    def steep(model: nn.Module, batch: Batch) -> Tensor:
        return (
            toy_loss(model, batch) * 100
        )  # overflows at the first scale of 65,536, not at a small part of it

    run_toy(config, loss_fn=steep)
    table = rows(tmp_path)
    assert 0 < table[-1]["n_skipped_steps"] < 8
    assert table[0]["grad_norm"] is None and table[-1]["grad_norm"] is not None
    assert [row["step"] for row in table] == list(range(1, 9))


def test_float16_does_not_hide_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="Step 3 "):
        run_toy(toy_config(tmp_path, precision="float16"), loss_fn=Poisoned(2))


def test_bfloat16_trains_like_float32_within_its_rounding(tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        run_toy(toy_config(tmp_path / precision, n_steps=30, precision=precision))
    one, other = (rows(tmp_path / name)[-1]["loss"] for name in ("float32", "bfloat16"))
    assert one != other
    assert other == pytest.approx(one, rel=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own imports
def test_a_compiled_model_trains_the_same(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path / "plain", n_steps=4))
    run_toy(toy_config(tmp_path / "compiled", n_steps=4, compile=True))
    for one, other in zip(rows(tmp_path / "plain"), rows(tmp_path / "compiled"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_compiling_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        UserError, match=r"training\.compile=true needs a C\+\+ compiler .* training\.compile=false"
    ):
        run_toy(toy_config(tmp_path, compile=True))


def test_a_run_ends_with_what_came_out_how_long_it_took_and_what_comes_next(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    run_toy(toy_config(folder, eval_every=5, n_steps=10), evaluators=[ToyEvaluator()])
    lines = (folder / "log.txt").read_text().splitlines()
    assert lines[lines.index("step 5, evaluated:") + 1].startswith("  weight norm  ")
    assert "step 10, evaluated:" not in lines
    said = say_measures(json.loads((folder / "result.json").read_text())["metrics"])
    assert re.fullmatch(r"finished after 10 steps in 0:\d\d:\d\d", lines[-len(said) - 2])
    assert len(said) == 3 and [f"  {line}" for line in said] == lines[-len(said) - 1 : -1]
    assert lines[-1].startswith("next: ") and lines[-1].endswith(f"nanollama report '{folder}'")


def test_a_warm_up_longer_than_the_run_is_shortened_and_said(tmp_path: Path) -> None:
    longer, whole = OptimizerConfig(warmup_steps=50), OptimizerConfig(warmup_steps=4)
    assert [learning_rate(longer, step, 4) for step in range(4)] == [
        learning_rate(whole, step, 4) for step in range(4)
    ]
    run_toy(toy_config(tmp_path, n_steps=4, optimizer={"warmup_steps": 50}))
    said = "Warning: training.optimizer.warmup_steps = 50 is more than n_steps = 4: the warm-up takes all."
    assert said in (tmp_path / "log.txt").read_text().splitlines()


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first = run_toy(toy_config(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    evaluator = ToyEvaluator()
    assert run_toy(toy_config(tmp_path), evaluators=[evaluator]) == first
    assert evaluator.steps == []
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {"log.txt"}
    assert "is finished: nothing to do" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_steps": 0}, "greater than or equal to 1"),
        (
            {"n_steps": 5, "batch_size": 4, "n_accumulation": 5},
            r"n_accumulation is 5, expected at most batch_size",
        ),
        ({"n_steps": 5, "device": "gpu"}, "expected auto, cpu, cuda or cuda:N"),
        ({"n_steps": 5, "precision": "float64"}, "'bfloat16' or 'float16'"),
        ({"n_steps": 5, "checkpoint": {"every": 0}}, "greater than or equal to 1"),
        ({"n_steps": 5, "optimizer": {"learning_rate": 0}}, "greater than 0"),
        ({"n_steps": 5, "optimizer": {"schedule": "cosin"}}, "'cosine', 'linear' or 'constant'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(copy.deepcopy(settings))


def test_every_setting_is_described() -> None:
    for config in (TrainingConfig, OptimizerConfig):
        for name, field in config.model_fields.items():
            assert field.description, f"{config.__name__}.{name} has no description"
