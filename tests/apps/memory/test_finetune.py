"""A pretrained model is trained further: masks, LoRA, resume, processes, what was forgotten, wrong input."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apps.memory import eval as memory_eval
from apps.memory import show
from apps.memory.pretrained_model import finetune
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream, tokenizer_of
from nanollama.config import dump_config
from nanollama.data.batch import IGNORE
from nanollama.exchange.export import export_hf
from nanollama.exchange.runs import open_trained
from nanollama.exchange.scoring import build_scorer
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import OPTIMIZER, find_checkpoint
from nanollama.pretrained_tokenizer import add_special_tokens
from nanollama.training.trained import load_run
from tests.forked import in_two_processes
from tests.toy_pretrained import write_model, write_tokenizer
from tests.toy_training import same_end

pytest.importorskip("transformers")

LORA = {"rank": 4, "alpha": 8}


def config_of(
    base: Path, kind: str = "qa", model: dict[str, Any] | None = None, has_text: bool = False, **keys: Any
) -> MemoryConfig:
    """A few steps on two people; ``has_text``: with text mixed in and held out."""
    text = {"files": ["text.txt"], "held_out": 0.2, "seq_len": 16, "cache": "cache"}
    sources = [{"kind": kind}, *([{"kind": "text", "weight": 0.5}] if has_text else [])]
    training = {
        "n_steps": 4,
        "batch_size": 6,
        "device": "cpu",
        "log_every": 1,
        "checkpoint": {"every": 2, "keep": None},
        "optimizer": {"learning_rate": 2e-3},
    }
    return MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "tuned",
            "data": {"n_people": 2, "sources": sources},
            "model": {
                "implementation": "hugging_face",
                "path": str(base),
                "max_seq_len": 256,
                **(model or {}),
            },
            "recall": {"n_people": 2, "sets": ["trained"], "max_new_tokens": 150},
            **({"text": text, "forgetting": {"n_rows": 6, "prompt_len": 4, "n_new": 6}} if has_text else {}),
            **keys,
            "training": {**training, **keys.get("training", {})},
        }
    )


def write(config: MemoryConfig, path: str = "config.yaml") -> str:
    Path(path).write_text(dump_config(config))
    return path


def rows(folder: str, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / name).read_text().splitlines()]


@pytest.mark.parametrize("kind", ["qa", "qatool"])
def test_what_is_learned_is_what_the_assistant_writes(kind: str, base: Path, here: Path) -> None:
    config = config_of(base, kind)
    stream, hashes = build_stream(config)
    tokenizer, batch = tokenizer_of(config), stream.batch(0)
    assert set(hashes) == {kind, "tokenizer"} and batch.query_positions is not None
    for row in range(len(batch.input_ids)):
        wanted = batch.targets[row][batch.targets[row] != IGNORE]
        asked = batch.query_positions[row][: len(wanted)]
        messages = tokenizer.decode_dialog(
            [*batch.input_ids[row, : int(asked.max()) + 1].tolist(), int(wanted[-1])]
        )
        ids = tokenizer.encode_dialog(messages)
        assert len(messages) == {"qa": 2, "qatool": 4}[kind]
        assert np.array_equal(asked.numpy() + 1, np.flatnonzero(ids.loss_mask))
        assert np.array_equal(wanted.numpy(), ids.ids[ids.loss_mask])


def test_the_model_begins_as_the_pretrained_one_with_three_tokens_more(base: Path, here: Path) -> None:
    import transformers

    config = config_of(base)
    model = build_model(config.model, torch.Generator().manual_seed(3)).eval()
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        found, expected = model(ids), plain(ids).logits
    n_before = expected.shape[-1]
    assert found.shape[-1] == n_before + 3 == tokenizer_of(config).vocab_size
    torch.testing.assert_close(found[..., :n_before], expected)
    torch.testing.assert_close(found[..., n_before], expected.mean(dim=-1))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_lora_leaves_the_pretrained_weights(architecture: str, here: Path) -> None:
    pytest.importorskip("peft")
    untied = {"tie_word_embeddings": False} if architecture == "llama" else {}
    folder = write_model(here / architecture, architecture, **untied)
    config = config_of(folder, model={"lora": LORA, "gradient_checkpointing": True}, has_text=True)
    full = config_of(folder, name="full", has_text=True)
    for one in (full, config):
        assert finetune.main([write(one)]) == 0
    first = build_model(config.model, torch.Generator().manual_seed(0)).state_dict()
    tuned = load_run(MemoryConfig, config.folder).model
    learned = {name for name, weight in tuned.named_parameters() if weight.requires_grad}
    changed = {name for name, value in tuned.state_dict().items() if not torch.equal(value, first[name])}
    assert learned and all("lora" in name or "trainable_tokens" in name for name in learned)
    assert changed <= {name for name in tuned.state_dict() if "lora" in name or "trainable_tokens" in name}
    assert sum("trainable_tokens" in name for name in changed) >= (2 if untied else 1)
    sizes = [(find_checkpoint(one.folder) / OPTIMIZER).stat().st_size for one in (config, full)]
    assert sizes[0] < sizes[1] / 2
    assert_exported_alike(config.folder, tuned)


def assert_exported_alike(run: Path, tuned: LanguageModel) -> None:
    """Does transformers load what was learned, with the rows of new tokens, and answer as the run does?"""
    import transformers

    export_hf(run, Path("there"))
    package = transformers.AutoTokenizer.from_pretrained("there")
    assert package.get_vocab() == transformers.AutoTokenizer.from_pretrained(run / "tokenizer").get_vocab()
    assert package.eos_token is not None and len(package) == tuned.vocab_size
    kept, there = (folder / "tokenizer_config.json" for folder in (run / "tokenizer", Path("there")))
    assert json.loads(there.read_text()) == json.loads(kept.read_text())  # templates and special tokens too
    trained, tokenizer = open_trained(run)
    assert build_scorer(trained.model, tokenizer, "run", 2).end == package.eos_token_id
    theirs = transformers.AutoModelForCausalLM.from_pretrained("there").eval()
    ids = torch.arange(theirs.config.vocab_size)[-64:].view(2, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, tuned.eval()(ids), atol=1e-5, rtol=1e-5)


def test_the_base_of_lora_is_kept_in_8_bits(base: Path, here: Path) -> None:
    pytest.importorskip("bitsandbytes")
    import transformers

    config = config_of(base, model={"lora": {**LORA, "load_in_8bit": True}})
    plain = config_of(base, model={"lora": LORA}, name="plain")
    for one in (config, plain):
        assert finetune.main([write(one)]) == 0
    tuned = load_run(MemoryConfig, config.folder).model
    coarse = [name for name, weight in tuned.named_parameters() if weight.dtype == torch.int8]
    assert len(coarse) == 7 * 2 and not any("lora" in name or "embed" in name for name in coarse)
    losses = [[row["loss"] for row in rows(one.folder)] for one in (config, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    export_hf(config.folder, here / "there")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(here / "there")
    assert {weight.dtype for weight in theirs.parameters()} == {torch.float32}


def test_gradient_checkpointing_has_the_same_losses(base: Path, here: Path) -> None:
    for name, model in (("plain", {}), ("again", {"gradient_checkpointing": True})):
        assert finetune.main([write(config_of(base, model=model, name=name))]) == 0
    losses = [[row["loss"] for row in rows(f"runs/{name}")] for name in ("plain", "again")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and len(losses[0]) == 4
    other = config_of(base, model={"gradient_checkpointing": True}, name="plain")
    assert finetune.main([write(other)]) == 0  # a run may go on so


@pytest.mark.parametrize("model", [{}, {"lora": {**LORA, "dropout": 0.1}}], ids=["full", "lora"])
def test_a_stopped_run_ends_with_the_same_bits(
    model: dict[str, Any], base: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model:
        pytest.importorskip("peft")
    keys = {"has_text": True, "model": model, "training": {"eval_every": 3}}
    assert finetune.main([write(config_of(base, name="whole", **keys))]) == 0
    said = capsys.readouterr().out
    assert "peak memory" in said and "optimizer" in said
    assert (here / "runs/whole/tokenizer/tokenizer.json").is_file()
    stopped = write(config_of(base, name="stopped", **keys))
    assert finetune.main([stopped]) == 0
    (here / "runs/stopped/result.json").unlink()
    newest = here / "runs/stopped/checkpoints/step_00000004"
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert finetune.main([stopped]) == 0
    assert "Going on from step 2" in (here / "runs/stopped/log.txt").read_text()
    assert same_end(here / "runs/whole", here / "runs/stopped")


@pytest.mark.slow
@pytest.mark.parametrize("model", [{}, {"lora": LORA, "gradient_checkpointing": True}], ids=["full", "lora"])
def test_two_processes_have_the_losses_of_one(model: dict[str, Any], base: Path, here: Path) -> None:
    one, two = (write(config_of(base, model=model, name=name), f"{name}.yaml") for name in ("one", "two"))
    assert finetune.main([one]) == 0
    assert in_two_processes(finetune.main, [two]) == [0, 0]
    for mine, theirs in zip(rows("runs/one"), rows("runs/two"), strict=True):
        for key in ("loss", "grad_norm", "n_tokens_seen"):
            assert theirs[key] == pytest.approx(mine[key], rel=1e-4), key


def test_what_was_forgotten_is_measured_and_so_it_is_later(base: Path, here: Path) -> None:
    config = config_of(base, has_text=True)
    assert finetune.main([write(config)]) == 0
    (row,) = rows("runs/tuned", "evals.jsonl")
    assert row["total_variation_base_low"] <= row["total_variation_base"] <= row["total_variation_base_high"]
    assert 0 < row["total_variation_base"] < 1 and row["kl_base_nats"] > 0
    change = row["text_loss_nats"] - row["text_loss_base_nats"]
    assert row["text_loss_change_nats"] == pytest.approx(change) and row["recall_trained"] <= 1
    assert "bits_per_fact" not in row
    Path("eval.yaml").write_text(
        "study: memory\nrun: runs/tuned\ndevice: cpu\n"
        "recall: {n_people: 2, sets: [trained], max_new_tokens: 150}\n"
    )
    assert memory_eval.main(["eval.yaml"]) == 0
    (folder,) = (here / "runs/tuned/evaluations").iterdir()
    again = json.loads((folder / "result.json").read_text())["metrics"]
    for name in ("kl_base_nats", "total_variation_base", "text_loss_change_nats", "recall_trained"):
        assert again[name] == pytest.approx(row[name], rel=1e-5), name


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_dialogs_in_the_chat_template_of_a_model_are_learned_and_answered(base: Path, here: Path) -> None:
    folder = edited(base, here / "chat")
    package = write_tokenizer(folder)
    add_special_tokens(package, ("<|im_start|>", "<|im_end|>"))
    package.chat_template = CHATML
    package.save_pretrained(folder)
    data = {"n_people": 1, "sources": [{"kind": "qatool"}], "format": "chat"}
    training = {"n_steps": 250, "batch_size": 4, "eval_every": 50, "stop_when": {"recall_trained": 1.0}}
    training |= {"optimizer": {"learning_rate": 1e-2, "warmup_steps": 20}, "checkpoint": {"every": 250}}
    recall = {"n_people": 1, "sets": ["trained"], "max_new_tokens": 200}
    assert finetune.main([write(config_of(folder, data=data, training=training, recall=recall))]) == 0
    last = rows("runs/tuned", "evals.jsonl")[-1]
    assert last["recall_trained"] == last["tool_use_trained"] == last["valid_calls_trained"] == 1.0


def test_a_batch_is_shown_in_the_models_tokens(
    base: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main([write(config_of(base))]) == 0
    assert "<|user|>" in capsys.readouterr().out


def edited(base: Path, folder: Path, **files: str | None) -> Path:
    """A copy of the model with other files, or without them."""
    folder.mkdir()
    for path in base.iterdir():
        if path.name not in files:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_wrong_input_is_told_in_one_sentence(
    base: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    no_end = edited(base, here / "no_end")
    write_tokenizer(no_end, end=None)
    good = write(config_of(base))
    for key, said in (
        (
            "model.path=nobody/nowhere",
            "model.path: nobody/nowhere is no folder of a model, nor to be had from the hub",
        ),
        (f"model.path={edited(base, here / 'a', **{'config.json': None})}", "holds no config.json"),
        (
            f"model.path={edited(base, here / 'b', **{'tokenizer.json': None})}",
            "has no tokenizer that can be read",
        ),
        (f"model.path={no_end}", "has no token that ends a text"),
        ("model.max_seq_len=500", "model.max_seq_len = 500 is too long"),
        ("model.max_seq_len=20", "model.max_seq_len = 20 is too small"),
        (
            "model={implementation: transformer, d_model: 8, n_layers: 1, n_heads: 1}",
            "starts from a pretrained model",
        ),
        ("text.files=[text.txt] text.seq_len=400", "make 399 tokens to read"),
        ("data.sources=[{kind: text}]", "needs the section text"),
        ("model.added_tokens=[x]", "added_tokens are those of dialogs"),
        ("model.lora={modules: [nothing]}", "model.lora.modules: Target modules"),
    ):
        keys = key.split(" ") if key.startswith("text") else [key]
        assert finetune.main([good, *keys, "run_dir=runs/bad", "overwrite=true"]) == 2, key
        printed = capsys.readouterr().err
        assert said in printed and "Traceback" not in printed, (key, printed)
        assert len(printed.strip().splitlines()) == 1, printed


def test_what_is_not_installed_is_named(
    base: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        coarse = config_of(base, model={"lora": {**LORA, "load_in_8bit": True}})
        assert finetune.main([write(coarse)]) == 2
        assert "run `pip install 'nanollama[8bit]'`" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "peft", None)
    assert finetune.main([write(config_of(base, model={"lora": LORA}))]) == 2
    assert "'peft' is not installed: run `pip install 'nanollama[hf]'`" in capsys.readouterr().err
