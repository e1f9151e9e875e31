"""The Trainer of transformers takes the steps that our loop takes, and leaves the same run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_finetune import LORA, config_of, rows, write

from apps.memory import eval as memory_eval
from apps.memory.pretrained_model import finetune
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream
from nanollama.data.batch import IGNORE
from nanollama.data.stream import DocumentStream
from nanollama.training.loop import Diverged
from tests.forked import in_two_processes
from tests.toy_training import same_values

pytest.importorskip("accelerate")
from apps.memory.pretrained_model.trainer import Rows, collate

EXACT = {"precision": "float32"}


def trained(base: Path, engine: str, **keys: Any) -> Path:
    """A run of this engine; its folder."""
    keys["training"] = {**EXACT, **keys.get("training", {})}
    config = config_of(base, name=engine, engine=engine, **keys)
    assert finetune.main([write(config, f"{engine}.yaml")]) == 0
    return config.folder


def columns(folder: Path, *names: str, file: str = "metrics.jsonl") -> np.ndarray:
    return np.array([[row[name] for name in names] for row in rows(str(folder), file)])


def test_the_losses_of_50_steps_are_those_of_our_loop(base: Path, here: Path) -> None:
    keys = {"n_steps": 50, "eval_every": 20, "checkpoint": {"every": 50}}
    keys |= {"optimizer": {"learning_rate": 2e-3, "warmup_steps": 5}}
    sources = [{"kind": "qa"}, {"kind": "text", "weight": 0.5}]
    data = {"n_people": 2, "sources": sources, "batching": "packed"}  # which the Trainer leaves alone
    both = {"has_text": True, "training": keys, "data": data}
    own, other = (trained(base, engine, **both) for engine in ("own", "trainer"))
    names = ("step", "loss", "grad_norm", "lr", "n_tokens_seen", "n_examples_seen")
    np.testing.assert_allclose(columns(other, *names), columns(own, *names), rtol=1e-4)
    losses = columns(own, "loss")
    assert len(losses) == 50 and losses[-1] < losses[0] - 0.5
    names = ("step", "recall_trained", "loss_trained_nats", "total_variation_base", "text_loss_change_nats")
    found, expected = (columns(folder, *names, file="evals.jsonl") for folder in (other, own))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    results = [json.loads((folder / "result.json").read_text()) for folder in (own, other)]
    assert results[0].keys() == results[1].keys() and results[1]["status"] == "finished"


@pytest.mark.parametrize("kind", ["qa", "qatool"])
def test_masks_are_those_of_our_loop_token_by_token(kind: str, base: Path, here: Path) -> None:
    stream, _ = build_stream(config_of(base, kind, has_text=True))
    assert isinstance(stream, DocumentStream)
    read = Rows(stream, n_steps=3)
    for step in range(3):
        ours = stream.batch(step)
        theirs = collate([read[6 * step + row] for row in range(6)])
        assert ours.query_positions is not None
        asked = set()
        for row, (queries, targets) in enumerate(zip(ours.query_positions, ours.targets, strict=True)):
            for query, target in zip(queries.tolist(), targets.tolist(), strict=True):
                if target != IGNORE:
                    asked.add((tuple(ours.input_ids[row, : query + 1].tolist()), target))
        found = set()
        for ids, labels in zip(theirs["input_ids"].tolist(), theirs["labels"].tolist(), strict=True):
            found |= {
                (tuple(ids[:at]), label) for at, label in enumerate(labels) if at > 0 and label != IGNORE
            }
        assert found == asked and len(found) > 6


@pytest.mark.parametrize("model", [{}, {"lora": LORA}], ids=["full", "lora"])
def test_a_stopped_run_of_the_trainer_ends_with_the_same_bits(
    model: dict[str, Any], base: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model:
        pytest.importorskip("peft")
    keys: dict[str, Any] = {"n_steps": 6, "eval_every": 3, "checkpoint": {"every": 2, "keep": None}}
    whole = trained(base, "trainer", model=model, training=keys)
    expected = state_of(whole)
    (whole / "result.json").unlink()
    for step in (4, 6):
        for folder in (whole / f"checkpoints/step_{step:08d}", whole / f"trainer/checkpoint-{step}"):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    trained(base, "trainer", model=model, training=keys)
    assert "optimizer 0.0 MiB" not in capsys.readouterr().out
    assert "Going on from step 2" in (whole / "log.txt").read_text()
    assert same_values(expected, state_of(whole))


def state_of(folder: Path) -> dict[str, Any]:
    """Weights, optimizer and losses at the end of a run."""
    from safetensors.torch import load_file

    optimizer = torch.load(folder / "trainer/checkpoint-6/optimizer.pt", weights_only=True)
    weights = load_file(folder / "checkpoints/step_00000006/model.safetensors")
    losses = columns(folder, "step", "loss", "grad_norm", "n_tokens_seen").tolist()
    evals = columns(folder, "step", "loss_trained_nats", file="evals.jsonl").tolist()
    return {"weights": weights, "optimizer": optimizer, "losses": losses, "evals": evals}


def test_parts_of_a_batch_add_up_and_a_run_can_be_examined(base: Path, here: Path) -> None:
    whole = trained(base, "own")
    parts = trained(base, "trainer", training={"n_accumulation": 3})
    np.testing.assert_allclose(
        columns(parts, "loss", "grad_norm"), columns(whole, "loss", "grad_norm"), rtol=1e-4
    )
    Path("eval.yaml").write_text(
        "study: memory\nrun: runs/trainer\ndevice: cpu\n"
        "recall: {n_people: 2, sets: [trained], max_new_tokens: 150}\n"
    )
    assert memory_eval.main(["eval.yaml"]) == 0


@pytest.mark.parametrize("clip", [1.0, None])
def test_nothing_is_learned_from_a_gradient_that_is_not_finite(
    clip: float | None, base: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.memory.pretrained_model.trainer_steps import StreamTrainer

    config = config_of(base, engine="trainer", training={**EXACT, "optimizer": {"clip_grad_norm": clip}})
    weights: list[torch.Tensor] = []
    plain = StreamTrainer.training_step

    def damaged(self: Any, model: Any, *arguments: Any, **others: Any) -> torch.Tensor:
        loss = plain(self, model, *arguments, **others)
        first = next(model.parameters())
        if self.state.global_step == 1:
            weights.extend((first, first.detach().clone()))
            first.grad.view(-1)[0] = float("inf")
        return loss

    monkeypatch.setattr(StreamTrainer, "training_step", damaged)
    with pytest.raises(Diverged, match=r"Step 2 has a loss of [0-9.]+ nats and a gradient norm of (nan|inf)"):
        finetune.run(config)
    now, before = weights
    assert torch.equal(now, before) and len(rows(str(config.folder))) == 1


@pytest.mark.slow
def test_two_processes_of_the_trainer_have_the_losses_of_one(base: Path, here: Path) -> None:
    one = trained(base, "trainer")
    config = write(config_of(base, name="two", engine="trainer", training=EXACT), "two.yaml")
    assert in_two_processes(finetune.main, [config]) == [0, 0]
    np.testing.assert_allclose(
        columns(Path("runs/two"), "loss", "n_tokens_seen"), columns(one, "loss", "n_tokens_seen"), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"training": {"parallel": "sharded"}}, "training.parallel = sharded"),
        (
            {"interventions": [{"implementation": "freeze", "at_step": 1, "parameters": ["*"]}]},
            "interventions",
        ),
        (
            {"model": {"path": None, "architecture": "llama", "vocab_size": 300}},
            "engine = trainer is for a model with model.path",
        ),
    ],
)
def test_what_the_trainer_cannot_do_is_refused(keys: dict[str, Any], said: str, base: Path) -> None:
    with pytest.raises(ValidationError, match=said):
        config_of(base, engine="trainer", **keys)


def test_uneven_batches_are_refused(base: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(config_of(base, engine="trainer", training={"n_accumulation": 4}))
    assert finetune.main([config]) == 2
    assert "expected a multiple of 4" in capsys.readouterr().err


def test_the_engine_is_part_of_the_config(base: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(base, "own")
    changed = MemoryConfig.model_validate(
        {**config_of(base, name="own", training=EXACT).model_dump(), "engine": "trainer"}
    )
    assert changed.folder == folder and finetune.main([write(changed)]) == 2
    assert "engine" in capsys.readouterr().err
