"""Models of Hugging Face that do not do what is asked of one are refused before anything is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nanollama.errors import UserError
from nanollama.model import HuggingFaceConfig, build_model
from nanollama.model.protocol import LanguageModel

transformers = pytest.importorskip("transformers")

BERT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ROFORMER = {**BERT, "is_decoder": True, "initializer_range": 0.1}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2}
NEO = {"hidden_size": 16, "num_layers": 24, "num_heads": 2}
BART = {"d_model": 16, "decoder_layers": 2, "encoder_layers": 1, "decoder_ffn_dim": 32, "encoder_ffn_dim": 32}
BART |= {"decoder_attention_heads": 2, "encoder_attention_heads": 2}
DEEPSEEK = {**BERT, "num_key_value_heads": 2, "q_lora_rank": 8, "kv_lora_rank": 8, "v_head_dim": 8}
DEEPSEEK |= {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "first_k_dense_replace": 2}


def build(architecture: str | None, sizes: dict[str, Any], path: Path | None = None) -> LanguageModel:
    config = HuggingFaceConfig.model_validate(
        {
            "implementation": "hugging_face",
            "architecture": architecture,
            "path": path and str(path),
            "sizes": sizes,
            "vocab_size": 50,
            "max_seq_len": 32,
        }
    )
    return build_model(config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("architecture", "sizes", "said"),
    [
        ("bert", BERT, "bert does not read a text from left to right, which is not supported; expected"),
        ("roberta", BERT, "roberta cannot read a text from left to right ("),
        ("bart", BART, "bart does not read packed documents as each alone"),
        ("bloom", {"hidden_size": 16, "n_head": 2}, "bloom cannot read packed documents as each alone"),
        ("openai-gpt", GPT, "openai-gpt cannot read packed documents"),
        ("roformer", ROFORMER, "roformer does not write texts of different lengths side"),
        ("deepseek_v3", DEEPSEEK, "deepseek_v3 cannot write texts of different lengths side by side"),
        ("gpt_neo", {**NEO, "window_size": 31}, "gpt_neo has layers that do not attend to all that came"),
        ("t5", {}, "t5 is no causal language model of transformers"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_refused(architecture: str, sizes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        build(architecture, sizes)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_stored_model_is_tried_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = transformers.BertConfig(**BERT, vocab_size=50, initializer_range=0.3)
    transformers.BertLMHeadModel(shape).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not read a text from left to right"):
        build(None, {}, tmp_path)


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [("gpt_neo", {**NEO, "window_size": 32}), ("bert", {**BERT, "is_decoder": True}), ("gpt2", GPT)],
)
def test_what_keeps_it_begins_as_if_untried(architecture: str, sizes: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    model = build(architecture, sizes).get_submodule("model")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules()), "as transformers makes new ones"
    with torch.random.fork_rng():
        seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))
        torch.manual_seed(seed)
        plain = transformers.AutoModelForCausalLM.from_config(model.config)
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
