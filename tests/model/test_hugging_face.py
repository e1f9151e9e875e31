"""A Hugging Face model has the face of ours: the contract, a stopped run, recall with the database."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mixer_contract import CHECKS, SHAPE, build, tokens

from apps.memory import train as memory_train
from apps.memory.recall import build_recall, open_tool
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_tokenizer
from nanollama.dialogs.generate import generate_one
from nanollama.errors import UserError
from nanollama.model import HuggingFaceConfig, model_class
from nanollama.model.hugging_face import HuggingFaceModel
from nanollama.model.hugging_face_attention import _KERNELS
from nanollama.model.probe import (
    ablated_heads,
    ablated_mlps,
    attention_heads,
    edited_maps,
    mixer_names,
    mlp_layers,
    recorded_maps,
    recorded_outputs,
)
from nanollama.training.trained import load_run
from tests.toy_training import check_that_a_stopped_run_ends_alike

pytest.importorskip("transformers")

LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.1,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.1, "tie_word_embeddings": True}


def shape(architecture: str = "llama", **keys: Any) -> HuggingFaceConfig:
    sizes = {"llama": LLAMA, "gpt2": GPT2}.get(architecture, {})
    lengths = {"vocab_size": SHAPE["vocab_size"], "max_seq_len": SHAPE["max_seq_len"]}
    return HuggingFaceConfig.model_validate(
        {"implementation": "hugging_face", "architecture": architecture, "sizes": sizes, **lengths, **keys}
    )


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_contract(architecture: str, check: Any) -> None:
    check(shape(architecture))


@torch.no_grad()
def test_longer_input_is_refused_in_a_sentence() -> None:
    model = build(shape(max_seq_len=8))  # a Llama has no table of positions that would come to an end
    with pytest.raises(UserError, match="reads at most 8 tokens and is given 9"):
        model(torch.ones(2, 9, dtype=torch.int64))
    with pytest.raises(UserError, match="reads at most 8 tokens and is given 9"):
        model.make_state(2, capacity=10)


def memory_config(n_steps: int, **training: Any) -> MemoryConfig:
    """A random Llama that learns to ask about two people, in the folder ``run`` of this one."""
    sizes = {**LLAMA, "hidden_size": 32, "intermediate_size": 96}
    return MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "llama",
            "run_dir": "run",
            "data_root": "data",
            "data": {"n_people": 2, "sources": [{"kind": "qatool"}]},
            "model": {"implementation": "hugging_face", "architecture": "llama", "sizes": sizes},
            "training": {
                "n_steps": n_steps,
                "batch_size": 8,
                "device": "cpu",
                "checkpoint": {"every": 2, "keep": None},
                "eval_every": 3,
                "optimizer": {"learning_rate": 6e-3},
                **training,
            },
            "recall": {"n_people": 2, "sets": ["trained"], "max_new_tokens": 170},
        }
    )


@pytest.mark.slow
def test_it_trains_and_goes_on_after_a_stop_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_that_a_stopped_run_ends_alike(partial(memory_train.run, memory_config(6)))
    assert load_run(MemoryConfig, Path("run")).step == 6


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [40, 200])
def test_it_asks_the_database_and_answers_as_plain_decoding_does(
    n_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = memory_config(n_steps, eval_every=None, checkpoint={"every": 1000})
    memory_train.run(config)
    model, tokenizer = load_run(MemoryConfig, Path("run")).model, build_tokenizer()
    with build_recall(config) as recall, open_tool(config) as tool:
        answers = recall.ask(model)["trained"]
        for answer in answers[::2]:
            prompt = tokenizer.encode_prompt(answer.question.messages[:1])
            plain = generate_one(model, tokenizer, prompt, tool, max_new_tokens=170)
            assert tuple(tokenizer.decode_dialog(plain.ids)) == answer.messages
            assert tuple(plain.replies) == answer.replies
        assert any(answer.replies for answer in answers) or n_steps == 40
        assert all(answer.is_right for answer in answers) or n_steps == 40


@torch.no_grad()
def test_a_saved_model_is_read_and_drawn_anew_from_its_folder(tmp_path: Path) -> None:
    stored = build(shape(), seed=3)
    stored.get_submodule("model").save_pretrained(tmp_path)  # type: ignore[operator]
    again = shape(architecture=None, path=str(tmp_path), sizes={})
    model = build(again)
    assert torch.equal(model(tokens()), stored(tokens()))
    for parameter in model.parameters():
        parameter.zero_()
    model.init_weights(torch.Generator())
    assert torch.equal(model(tokens()), stored(tokens()))


def test_blocks_are_those_of_models_of_ours() -> None:
    model = build(shape())
    assert mlp_layers(model) == []
    with (
        pytest.raises(UserError, match="blocks of a model of ours; a HuggingFaceModel has none"),
        ablated_mlps(model, [0]),
    ):
        pass


@pytest.mark.parametrize(
    ("architecture", "output"),
    [("llama", "model.layers.1.self_attn.o_proj"), ("gpt2", "transformer.h.1.attn.c_proj")],
)
@torch.no_grad()
def test_heads_are_seen_and_changed(architecture: str, output: str) -> None:
    model = build(shape(architecture)).eval()
    assert isinstance(model, HuggingFaceModel) and mixer_names(model) == ["attention", "attention"]
    assert attention_heads(model) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    ids = tokens()
    plain = model(ids)
    before = model.model.config._attn_implementation
    model.model.set_attn_implementation("eager")
    theirs = model.model(ids, output_attentions=True).attentions
    model.model.set_attn_implementation(before)
    with recorded_maps(model) as maps:
        assert torch.allclose(model(ids), plain, atol=1e-5)
    assert all(torch.allclose(maps[layer], theirs[layer], atol=1e-5) for layer in (0, 1))

    def without_head(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        heads = inputs[0].unflatten(-1, (2, -1)).clone()
        heads[..., 1, :] = 0
        return (heads.flatten(-2),)

    hook = model.model.get_submodule(output).register_forward_pre_hook(without_head)
    expected = model(ids)
    hook.remove()
    with ablated_heads(model, [(1, 1)]):
        assert torch.allclose(model(ids), expected, atol=1e-5)
    with edited_maps(model, {0: lambda maps: maps}), ablated_heads(model, [(1, 1)]):
        assert torch.allclose(model(ids), expected, atol=1e-5), "one within the other"
    with edited_maps(model, {1: torch.zeros_like}), recorded_outputs(model.model, [output]) as outputs:
        model(ids)
        assert (outputs[output] == outputs[output][:1, :1]).all(), "nothing is collected"
    with pytest.raises(KeyError), edited_maps(model, {1: torch.zeros_like}):
        raise KeyError
    assert model.model.config._attn_implementation == before and not _KERNELS
    assert torch.equal(model(ids), plain)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"architecture": "lama"}, "transformers knows no 'lama'; did you mean 'llama'?"),
        ({"sizes": {"hiden_size": 3}}, "llama has no 'hiden_size'; did you mean 'hidden_size'?"),
        ({"sizes": {**LLAMA, "hidden_size": 15}}, "llama cannot be of these sizes: "),
        ({"architecture": "mamba2"}, "mamba2 has layers that do not attend to all that came before"),
        ({"architecture": "mistral", "sizes": {"sliding_window": 8}}, "mistral has layers that do not"),
        ({"sizes": {**LLAMA, "max_position_embeddings": 9}}, "= 64 is too long: llama reads 9 tokens"),
        ({"sizes": {**LLAMA, "vocab_size": 9}}, "vocab_size = 50 is more than the 9 token ids of llama"),
    ],
)  # fmt: skip
def test_wrong_models_are_told_in_one_sentence(keys: dict[str, Any], said: str) -> None:
    config = shape(**keys)
    with pytest.raises(UserError) as error:
        model_class(config)(config)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_wrong_folders_are_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no_weights").mkdir()
    build(shape()).get_submodule("model").config.save_pretrained(tmp_path / "no_weights")  # type: ignore
    for path, said in (
        ("empty", "holds no config.json"),
        ("runs/none/model", "there is no folder .*runs/none/model: expected that of a saved model"),
        ("no_weights", "has no weights to read"),
    ):
        with pytest.raises(UserError, match=said) as error:
            build(shape(architecture=None, sizes={}, path=str(tmp_path / path)))
        assert "\n" not in str(error.value)


def test_no_model_runs_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # what transformers would ask for
    ran = tmp_path / "ran"
    code = (
        f"open({str(ran)!r}, 'w')\nfrom transformers import LlamaConfig as Shape, LlamaForCausalLM as Model\n"
    )
    build(shape()).get_submodule("model").save_pretrained(tmp_path)  # type: ignore
    (tmp_path / "own.py").write_text(code)
    plain = json.loads((tmp_path / "config.json").read_text())
    own = {"AutoConfig": "own.Shape", "AutoModelForCausalLM": "own.Shape"}
    (tmp_path / "config.json").write_text(json.dumps({**plain, "auto_map": own}))
    build(shape(architecture=None, sizes={}, path=str(tmp_path)))  # as the Llama that it says it is
    (tmp_path / "config.json").write_text(json.dumps({**plain, "model_type": "own", "auto_map": own}))
    with pytest.raises(UserError, match="can only be read by code of its own, which is never run") as error:
        build(shape(architecture=None, sizes={}, path=str(tmp_path)))
    assert "\n" not in str(error.value)
    assert not ran.exists()


def test_either_a_path_or_an_architecture() -> None:
    for keys in ({"path": "here"}, {"architecture": None}):
        with pytest.raises(ValueError, match="expected either path or architecture"):
            shape(**keys)
    with pytest.raises(ValueError, match="sizes are those of the model in path"):
        shape(architecture=None, path="here", sizes=LLAMA)
