"""A small model is pretrained on text: bits per byte, samples, the folder that finetuning starts from."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from apps.memory.data_settings import DIALOG_TOKENS
from apps.memory.held_out import check_unlearned
from apps.memory.pretrained_model import finetune, pretrain
from apps.memory.pretrained_model.settings import PretrainConfig
from apps.memory.pretrained_model.stored import note_origin
from apps.memory.settings import MemoryConfig
from nanollama.config import dump_config
from nanollama.data.batch import IGNORE
from nanollama.data.rows import next_token_batch
from nanollama.data.text.spread import examples_hash, spread_rows
from nanollama.data.text.tokens import token_bytes
from nanollama.errors import UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.states import inspect
from nanollama.model import build_model
from nanollama.monitor.origin import Origin, record_origin
from nanollama.pretrained_tokenizer import PretrainedTokenizer
from nanollama.training.loss import next_token_loss
from nanollama.training.trained import load_run
from tests.toy_pretrained import SIZES, write_text
from tests.toy_training import check_that_a_stopped_run_ends_alike

pytest.importorskip("transformers")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    return tmp_path


def config_of(n_steps: int = 2, **keys: Any) -> PretrainConfig:
    sizes = {key: value for key, value in SIZES["llama"].items() if key != "max_position_embeddings"}
    tree = {
        "study": "memory",
        "name": "base",
        "run_dir": "run",
        "model": {
            "implementation": "hugging_face",
            "architecture": "llama",
            "vocab_size": 300,
            "max_seq_len": 256,
            "sizes": sizes,
        },
        "text": {
            "files": ["text.txt"],
            "held_out": 0.2,
            "seq_len": 16,
            "cache": "cache",
            "tokenizer": {"implementation": "byte_pairs", "vocab_size": 300},
        },
        "training": {
            "n_steps": n_steps,
            "batch_size": 4,
            "device": "cpu",
            "log_every": 1,
            "eval_every": 2,
            "checkpoint": {"every": 2, "keep": None},
        },
        "measures": {"n_rows": 5, "batch_size": 2, "n_samples": 2, "prompt_len": 4, "n_new": 5},
    }
    return PretrainConfig.model_validate({**tree, **keys})


def test_bits_per_byte_and_the_folder_of_the_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import transformers

    config = config_of()
    Path("base.yaml").write_text(dump_config(config))
    assert pretrain.main(["base.yaml"]) == 0
    assert "%|" not in capsys.readouterr().err  # a bar of transformers
    (row,) = [json.loads(line) for line in Path("run/evals.jsonl").read_text().splitlines()]
    text, trained = pretrain.read_text(config), load_run(PretrainConfig, Path("run"))
    chosen = spread_rows(text.documents("valid"), 5)
    rows = text.rows("valid")[chosen]
    batch = next_token_batch(rows)
    with torch.no_grad():
        nats = float(next_token_loss(trained.model, batch))
    words = [text.tokenizer.decode(ids[1:].tolist()) for ids in rows]  # all ASCII, ends of documents left out
    assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / len("".join(words)), rel=1e-5)
    assert row["loss_nats"] == pytest.approx(nats / int((batch.targets != IGNORE).sum()), rel=1e-5)
    (samples,) = [json.loads(line) for line in Path("run/samples.jsonl").read_text().splitlines()]
    (noted,) = json.loads(Path("run/environment.json").read_text())["measured"].items()
    assert noted == ("valid", examples_hash(text.documents("valid")[chosen], rows))
    assert samples["step"] == 2 and len(samples["samples"]) == 2
    assert samples["samples"][0]["prompt"] == text.tokenizer.decode(
        rows[0, :4].tolist(), skip_special_tokens=False
    )

    plain = transformers.AutoModelForCausalLM.from_pretrained("run/model")
    package = transformers.AutoTokenizer.from_pretrained("run/model")
    with torch.no_grad():
        expected = trained.model(batch.input_ids)
        torch.testing.assert_close(plain(batch.input_ids).logits, expected)
    assert package.encode("Where was Ann Bell born?") == text.tokenizer.encode("Where was Ann Bell born?").ids
    assert package.eos_token_id == plain.config.eos_token_id == 0

    tuned = MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "tuned",
            "data": {"n_people": 2, "sources": [{"kind": "qa"}]},
            "model": {"implementation": "hugging_face", "path": "run/model", "max_seq_len": 256},
            "recall": {"n_people": 2, "sets": ["trained"], "max_new_tokens": 150},
            "training": {"n_steps": 1, "batch_size": 2, "device": "cpu"},
        }
    )
    Path("tuned.yaml").write_text(dump_config(tuned))
    text = "text={files: [text.txt], held_out: 0.25, seq_len: 16, cache: cache}"
    assert finetune.main(["tuned.yaml", text, "forgetting={prompt_len: 4, n_new: 5}"]) == 2
    said = capsys.readouterr().err
    assert (
        "The run run has learned from what would be held out now: text.held_out is 0.2 there and 0.25" in said
    )
    assert finetune.main(["tuned.yaml"]) == 0
    again = ["base.yaml", "name=again", "run_dir=again", "interventions=[{implementation: load, run: run}]"]
    assert pretrain.main([*again, "text.held_out=0.25"]) == 2
    assert "text.held_out is 0.2 there and 0.25 here" in capsys.readouterr().err

    child = GridRun("tuned", tuned.folder, tuned, {}, needs=("base",))
    assert inspect(child).kind == "finished"
    assert pretrain.main(["base.yaml", "overwrite=true", "training.seed=1"]) == 0
    note_origin(tuned.folder, "run/model")  # as when it goes on
    note_origin(here, "run/model")  # as when its data are shown
    assert not (here / "environment.json").exists()
    assert inspect(child).kind == "stale"
    assert inspect(child).reason == "it began from run, but it was trained anew since"


def test_a_stopped_run_ends_with_the_same_bits(here: Path) -> None:
    check_that_a_stopped_run_ends_alike(lambda: pretrain.run(config_of(6)))
    steps = [json.loads(line)["step"] for line in Path("run/samples.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]
    assert Path("whole/samples.jsonl").read_text() == Path("run/samples.jsonl").read_text()


def test_bytes_of_tokens_add_up_to_those_of_a_text(here: Path) -> None:
    tokenizer = pretrain.read_text(config_of()).tokenizer
    lengths = token_bytes(tokenizer)
    said = "Where was Zoë born? \N{SNOWMAN}\n"
    assert lengths is not None
    assert lengths[tokenizer.encode(said).ids].sum() == len(said.encode())
    assert lengths[tokenizer.token_to_id("<|endoftext|>")] == 0


def test_wrong_input_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"implementation": "hugging_face", "path": "here", "max_seq_len": 256}
    with pytest.raises(ValidationError, match=r"model\.path is a model that is trained"):
        config_of(model=model)
    with pytest.raises(ValidationError, match=r"make 299 tokens to read"):
        config_of(text={"files": ["text.txt"], "seq_len": 300})
    Path("base.yaml").write_text(dump_config(config_of()))
    assert pretrain.main(["base.yaml", "model.vocab_size=290"]) == 2
    assert "model.vocab_size = 290 is too small: the tokenizer has 300 tokens" in capsys.readouterr().err


def test_dialogs_among_the_text_make_their_format_known(here: Path) -> None:
    dialogs = {"share": 0.5, "sums": {"n_sums": 40}}
    model = config_of().model.model_dump() | {"vocab_size": 303}
    config = config_of(dialogs=dialogs, model=model)
    text = pretrain.read_text(config)
    tokenizer = PretrainedTokenizer("", DIALOG_TOKENS, pretrain.package_tokenizer(config, text))
    batch = pretrain.build_stream(config, text).batch(0)
    read = [tokenizer.decode(row) for row in batch.input_ids.tolist()]
    assert sum("<|user|>What is" in row for row in read) == 2 and sum("CALC" in row for row in read) == 1
    Path("base.yaml").write_text(dump_config(config))
    assert pretrain.main(["base.yaml"]) == 0
    stored = PretrainedTokenizer("run/model", DIALOG_TOKENS)
    assert stored.fingerprint() == tokenizer.fingerprint() and stored.vocab_size == 303
    tuned = MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "tuned",
            "data": {"n_people": 2, "sources": [{"kind": "qa"}]},
            "model": {"implementation": "hugging_face", "path": "run/model", "max_seq_len": 256},
            "training": {"n_steps": 1},
        }
    )
    before = load_run(PretrainConfig, Path("run")).model
    found = build_model(tuned.model, torch.Generator().manual_seed(0))  # with no embedding more
    ids = torch.arange(280, 303)[None]
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(ids), before(ids), rtol=0, atol=0)


def test_dialogs_need_room_for_their_tokens(here: Path) -> None:
    with pytest.raises(UserError, match=r"has 300 tokens and dialogs take 3 more; set it to 303"):
        pretrain.read_text(config_of(dialogs={"share": 0.5}))


def with_sums() -> pretrain.PretrainConfig:
    """A base that reads sums among its text."""
    model = config_of().model.model_dump() | {"vocab_size": 303}
    return config_of(dialogs={"share": 0.5, "sums": {"n_sums": 40, "seed": 1}}, model=model)


def asked_sums() -> MemoryConfig:
    """A run that starts from the model of ``run`` and is asked other sums."""
    return MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "tuned",
            "run_dir": "tuned",
            "data": {"n_people": 2, "sources": [{"kind": "sums"}]},
            "model": {"implementation": "hugging_face", "path": "run/model", "max_seq_len": 256},
            "recall": {"sets": ["sums_trained", "sums_unseen"]},
            "training": {"n_steps": 1},
        }
    )


def test_sums_that_a_base_has_read_are_not_asked_about_as_unseen(here: Path) -> None:
    base = with_sums()
    Path("run").mkdir()
    Path("run/config.yaml").write_text(dump_config(base))
    tuned = asked_sums()
    with pytest.raises(UserError, match=r"'sums_unseen' asks about: data.sums.seed is 1 there and 0 here"):
        check_unlearned(tuned)
    sums = tuned.data.model_copy(update={"sums": tuned.data.sums.model_copy(update={"seed": 1})})
    check_unlearned(tuned.changed(data=sums))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"held_out": 0.25}, "text.held_out is 0.2 there and 0.25 here"),
        ({"files": ["text.jsonl"]}, "documents are lines there and rows' 'text' here"),
        ({"files": ["text.txt", "text.jsonl"]}, "documents are lines there and lines and rows' 'text' here"),
        ({"files": ["other.txt"], "column": "body"}, None),
    ],
)
def test_text_that_an_exported_base_has_learned_is_not_held_out(
    here: Path, text: dict[str, Any], message: str | None
) -> None:
    base = config_of()
    Path("exported").mkdir()
    Path("exported/nanollama.yaml").write_text(dump_config(base))
    own = base.text.model_dump(mode="json", exclude={"tokenizer"})
    tuned = MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "tuned",
            "data": {"n_people": 2, "sources": [{"kind": "qa"}]},
            "model": {"implementation": "hugging_face", "path": "exported", "max_seq_len": 256},
            "text": {**own, **text},
            "forgetting": {"prompt_len": 8, "n_new": 8},
            "training": {"n_steps": 1},
        }
    )
    with nullcontext() if message is None else pytest.raises(UserError, match=message):
        check_unlearned(tuned)


def test_a_base_that_was_made_anew_hides_nothing_of_what_was_learned(here: Path) -> None:
    base = with_sums()
    tuned = asked_sums()
    Path("run").mkdir()
    Path("run/config.yaml").write_text(dump_config(config_of()))
    Path("tuned/checkpoints/step_00000001").mkdir(parents=True)
    origin = Origin("run", 0, 2, "", "", base.model_dump(mode="json"))
    record_origin(Path("tuned"), "model.path", origin)
    with pytest.raises(UserError, match=r"data.sums.seed is 1 there and 0 here"):
        check_unlearned(tuned)
