"""A run that was stopped anywhere, in any way, ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nanollama.data.batch import Batch
from nanollama.errors import EXIT_PREEMPTED, Preempted, UserError
from nanollama.model import ModelConfig, build_model
from nanollama.monitor import checkpoint
from nanollama.training import loop
from nanollama.training.loss import next_token_loss
from tests.forked import finish, start
from tests.toy_training import (
    VOCAB_SIZE,
    ToyConfig,
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


class StopAt:
    """The toy's loss; asks its own process to stop while it computes a step."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGUSR1) -> None:
        self.step, self.number, self.calls = step, number, 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if self.calls == self.step:
            os.kill(os.getpid(), self.number)
        return toy_loss(model, batch)


@pytest.mark.parametrize("stop", [1, 5, 8, 10])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dropout": 0.3, "n_accumulation": 2},
        {"precision": "bfloat16", "log_every": 3, "eval_every": 5},
        {"precision": "float16", "log_every": 4, "eval_every": 1},
    ],
    ids=["plain", "dropout", "bfloat16", "float16"],
)
def test_ten_steps_are_some_then_the_rest(tmp_path: Path, stop: int, settings: dict[str, Any]) -> None:
    def config(name: str) -> ToyConfig:
        return toy_config(tmp_path / name, n_steps=10, **settings)

    whole = run_toy(config("whole"))
    n_accumulation = settings.get("n_accumulation", 1)
    with pytest.raises(Preempted, match=rf"Stopped after step {stop} of 10 \(received SIGUSR1\)"):
        run_toy(config("cut"), loss_fn=StopAt(stop * n_accumulation))
    assert newest(tmp_path / "cut").name == f"step_{stop:08d}"
    assert [row["step"] for row in rows(tmp_path / "cut")][-1] <= stop

    other_weights = ToyModel(seed=5, dropout=settings.get("dropout", 0.0))
    cut = run_toy(config("cut"), model=other_weights)
    assert same_end(tmp_path / "whole", tmp_path / "cut")
    assert (cut.step, cut.metrics, cut.status) == (whole.step, whole.metrics, "finished")
    assert f"Going on from step {stop}" in (tmp_path / "cut" / "log.txt").read_text()


def test_evaluations_are_not_repeated_and_not_left_out(tmp_path: Path) -> None:
    first, second = ToyEvaluator(), ToyEvaluator()
    with pytest.raises(Preempted):
        run_toy(toy_config(tmp_path, eval_every=3), evaluators=[first], loss_fn=StopAt(6))
    assert first.steps == [3], "what asks to stop may not have time for an evaluation"
    stopped = json.loads((tmp_path / "result.json").read_text())
    assert (stopped["step"], stopped["evaluated_at_step"]) == (6, 3)
    run_toy(toy_config(tmp_path, eval_every=3), evaluators=[second])
    assert second.steps == [6, 9, 12]
    assert "evaluated_at_step" not in json.loads((tmp_path / "result.json").read_text())
    assert [row["step"] for row in rows(tmp_path, "evals.jsonl")] == [3, 6, 9, 12]


def test_an_evaluation_at_the_checkpoint_is_not_repeated(tmp_path: Path) -> None:
    first, second = ToyEvaluator(), ToyEvaluator()

    class Breaks(StopAt):
        def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
            if self.calls == self.step - 1:
                raise OSError("the disk is gone")
            return super().__call__(model, batch)

    with pytest.raises(OSError, match="the disk is gone"):
        run_toy(toy_config(tmp_path, eval_every=4), evaluators=[first], loss_fn=Breaks(6))
    assert first.steps == [4] and newest(tmp_path).name == "step_00000004"
    run_toy(toy_config(tmp_path, eval_every=4), evaluators=[second])
    assert second.steps == [8, 12]


def test_elapsed_seconds_go_on(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        run_toy(toy_config(tmp_path), loss_fn=StopAt(6))
    state = newest(tmp_path) / "state.json"
    seconds = json.loads(state.read_text())["seconds"]
    assert 0 < seconds < 60
    result = run_toy(toy_config(tmp_path))
    elapsed = [
        json.loads(line)["elapsed_seconds"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert elapsed == sorted(elapsed) and result.seconds >= seconds


def test_rows_past_the_checkpoint_are_cut_also_torn_ones(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path / "whole", eval_every=3))
    folder = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", folder)
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step_00000012")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "lo')
    run_toy(toy_config(folder, eval_every=3))
    assert same_end(tmp_path / "whole", folder)
    assert "Going on from step 8; rows written after it: 4, removed." in (folder / "log.txt").read_text()


def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(toy_config(tmp_path / "whole"))
    folder = tmp_path / "cut"
    with pytest.raises(Preempted):
        run_toy(toy_config(folder), loss_fn=StopAt(10))
    weights = folder / "checkpoints" / "step_00000010" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    capsys.readouterr()
    run_toy(toy_config(folder))
    said = capsys.readouterr().err
    assert "Warning: Skipped the checkpoint" in said and "step_00000010: model.safetensors has" in said
    assert "Going on from step 8" in said
    assert same_end(tmp_path / "whole", folder)


def test_with_every_checkpoint_damaged_it_starts_again(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path / "whole"))
    folder = tmp_path / "cut"
    with pytest.raises(Preempted):
        run_toy(toy_config(folder, checkpoint={"every": 4, "keep": 1}), loss_fn=StopAt(10))
    (newest(folder) / "manifest.json").unlink()
    run_toy(toy_config(folder))
    assert same_end(tmp_path / "whole", folder)


def test_going_on_in_another_precision_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Preempted):
        run_toy(toy_config(tmp_path), loss_fn=StopAt(5))
    state = newest(tmp_path) / "state.json"
    saved = json.loads(state.read_text())
    assert saved["precision"] == "float32"
    manifest = newest(tmp_path) / "manifest.json"
    changed = json.dumps({**saved, "precision": "bfloat16"})
    state.write_text(changed)
    content = json.loads(manifest.read_text())
    content["files"]["state.json"] = checkpoint.fingerprint(state)
    manifest.write_text(json.dumps(content))
    run_toy(toy_config(tmp_path))
    assert "Warning: The run was in bfloat16 and goes on in float32." in capsys.readouterr().err


@pytest.mark.parametrize(("first", "then"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_a_run_goes_on_where_another_precision_is_chosen(
    first: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path, precision="auto")
    monkeypatch.setattr("nanollama.training.loop.choose_precision", lambda *_: first)
    with pytest.raises(Preempted):
        run_toy(config, loss_fn=StopAt(5))
    monkeypatch.setattr("nanollama.training.loop.choose_precision", lambda *_: then)
    assert run_toy(config).step == 12


def transformer_run(folder: Path, n_steps: int) -> None:
    """A run of a real model with dropout and tied embeddings; ends its process as a study does."""
    config = toy_config(folder, n_steps=n_steps, eval_every=7, log_every=2, checkpoint={"every": 3})
    shape = ModelConfig(
        vocab_size=VOCAB_SIZE,
        d_model=8,
        n_layers=1,
        n_heads=2,
        max_seq_len=16,
        dropout=0.1,
        tied_embeddings=True,
    )
    model = build_model(shape, torch.Generator().manual_seed(1))
    try:
        run_toy(config, model=model, loss_fn=next_token_loss)
    except Preempted:
        os._exit(EXIT_PREEMPTED)


def killed_at_effect(folder: Path, n_steps: int, which_save: int, effect: int) -> None:
    """The same run; it dies before the ``effect``-th act on the disk of its ``which_save``-th save."""
    count, saves = -1, 0  # acts of that save, negative outside of it

    def counting(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if count >= 0:
                count += 1
                if count == effect:
                    os.kill(os.getpid(), signal.SIGKILL)
            return act(*args, **kwargs)

        return acted

    save = checkpoint.Checkpointer.save

    def counted_save(*args: Any, **kwargs: Any) -> Path:
        nonlocal count, saves
        saves += 1
        count = 0 if saves == which_save else -1
        path = save(*args, **kwargs)
        count = -1
        return path

    checkpoint.Checkpointer.save = counted_save  # type: ignore[method-assign]
    for module, name in (
        (safetensors.torch, "save_model"),
        (torch, "save"),
        (os, "fsync"),
        (os, "rename"),
        (os, "replace"),
        (os, "mkdir"),
        (os, "rmdir"),
        (os, "unlink"),
    ):
        setattr(module, name, counting(getattr(module, name)))
    transformer_run(folder, n_steps)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    n_steps = 120
    assert finish(transformer_run, tmp_path / "whole", n_steps) == 0
    seconds = json.loads((tmp_path / "whole" / "result.json").read_text())["seconds"]
    moments = random.Random(0)
    n_killed = n_runs = 0
    while n_killed < 20:
        n_runs += 1
        folder = tmp_path / f"cut_{n_runs}"
        while not (folder / "result.json").exists():
            process = start(transformer_run, folder, n_steps)
            process.join(moments.uniform(0.0, 0.5 * seconds) if n_killed < 20 else 60)
            if process.is_alive():
                process.kill()
                n_killed += 1
            process.join(60)
        assert same_end(tmp_path / "whole", folder)
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("which_save", [1, 4])
def test_killed_before_each_act_of_saving(tmp_path: Path, which_save: int) -> None:
    n_steps = 15
    assert finish(transformer_run, tmp_path / "whole", n_steps) == 0
    stages = set()
    for effect in range(1, 100):
        folder = tmp_path / f"cut_{effect}"
        if finish(killed_at_effect, folder, n_steps, which_save, effect) == 0:
            break
        stages.add(tuple(sorted(path.name for path in (folder / "checkpoints").glob("*"))))
        assert finish(transformer_run, folder, n_steps) == 0
        assert same_end(tmp_path / "whole", folder)
        assert not list((folder / "checkpoints").glob(".*"))
    assert effect > 8 and len(stages) > 2, "the save must have been cut at several stages"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_stopped_by_each_signal(tmp_path: Path, number: signal.Signals) -> None:
    n_steps = 60
    assert finish(transformer_run, tmp_path / "whole", n_steps) == 0
    process = start(transformer_run, tmp_path / "cut", n_steps)
    deadline = time.monotonic() + 60
    while not (tmp_path / "cut" / "checkpoints").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == EXIT_PREEMPTED
    result = json.loads((tmp_path / "cut" / "result.json").read_text())
    assert result["status"] == "preempted" and 3 <= result["step"] <= n_steps
    assert newest(tmp_path / "cut").name == f"step_{result['step']:08d}"
    assert finish(transformer_run, tmp_path / "cut", n_steps) == 0
    assert same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_goes_on_with_no_other_stream(tmp_path: Path, is_finished: bool) -> None:
    """A stream is code: what it reads, no config says."""
    config = toy_config(tmp_path)
    run_toy(config)
    if not is_finished:
        (tmp_path / "result.json").unlink()
        shutil.rmtree(newest(tmp_path))
    before = rows(tmp_path)
    with pytest.raises(UserError, match=r"first batch, .* is not what the run .* was started with"):
        run_toy(config, stream=ToyStream(6, seed=5))
    assert rows(tmp_path) == before
    run_toy(config)
    run_toy(toy_config(tmp_path, overwrite=True), stream=ToyStream(6, seed=5))


def test_a_run_from_before_first_batches_were_noted_goes_on(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path))
    path = tmp_path / "environment.json"
    environment = json.loads(path.read_text())
    del environment["first_batch"]
    path.write_text(json.dumps(environment))
    assert run_toy(toy_config(tmp_path)).status == "finished"
    assert "first_batch" in json.loads(path.read_text())


def test_a_run_that_goes_on_in_another_format_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(toy_config(tmp_path))
    path = tmp_path / "environment.json"
    assert json.loads(path.read_text())["precision"] == ["float32"]
    (tmp_path / "result.json").unlink()
    shutil.rmtree(newest(tmp_path))
    monkeypatch.setattr(loop, "choose_precision", lambda wanted, device: "bfloat16")
    run_toy(toy_config(tmp_path))
    assert json.loads(path.read_text())["precision"] == ["float32", "bfloat16"]
    assert "The run computed in float32 and goes on in bfloat16." in (tmp_path / "log.txt").read_text()
