"""Models that see both sides: BERT by settings, relative positions against a loop, what they count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mixer_contract import CHECKS, build, shape, tokens
from pydantic import ValidationError
from torch import Tensor, nn

from nanollama.model.mixers.attention import Attention
from nanollama.model.probe import recorded_maps
from nanollama.model.shell import Shell

BERT = {
    "causal": False,
    "positions": "learned",
    "residual": "post",
    "norm": "layer",
    "norm_eps": 1e-12,
    "mlp": "gelu",
    "bias": True,
}
RELATIVE = {"causal": False, "positions": "relative", "n_heads": 4}
FITTING = [  # of the contract, those that are not about reading from first to last
    "logits and queries",
    "every parameter learns",
    "weights come from the generator",
    "a model from the meta device has nothing unset",
    "flops equal those that torch counts",
    "bfloat16 stays near float32",
]


def make(seed: int = 0, **keys: object) -> Shell:
    model = build(shape(**keys), seed)
    assert isinstance(model, Shell)
    return model


@pytest.mark.parametrize("check", FITTING)
@pytest.mark.parametrize(
    "keys",
    [BERT, RELATIVE, {**RELATIVE, "n_kv_heads": 2, "tied_embeddings": True}, {**BERT, "positions": "rotary"}],
    ids=["bert", "relative", "relative, grouped, tied", "rotary, post"],
)
def test_contract(keys: dict[str, object], check: str) -> None:
    CHECKS[check](shape(**keys))


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_hidden_states_equal_those_of_hugging_face_bert(tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    ours = make(**BERT, d_model=32, n_heads=4, n_layers=3, d_ff=48, tied_embeddings=tied)
    for parameter in ours.parameters():  # biases and norms too, which a new model has at 0 and 1
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=64,
        ),
        add_pooling_layer=False,
    ).eval()
    theirs.load_state_dict(as_bert(ours), strict=True)
    ids = tokens(4, 40)
    hidden = theirs(ids).last_hidden_state
    expected = hidden @ (ours.embedding if tied else ours.head).weight.T
    torch.testing.assert_close(ours(ids), expected, rtol=1e-5, atol=1e-5)
    queries = torch.tensor([[3, 7, 39]]).expand(4, -1)
    torch.testing.assert_close(
        ours(ids, query_positions=queries), expected[:, [3, 7, 39]], rtol=1e-5, atol=1e-5
    )


def as_bert(model: Shell) -> dict[str, Tensor]:
    """Our weights by the names of BERT; what it adds for the first of two sentences is nothing."""
    width = model.config.d_model
    state: dict[str, Any] = {
        "embeddings.word_embeddings.weight": model.embedding.weight,
        "embeddings.position_embeddings.weight": model.position_embedding.weight,
        "embeddings.token_type_embeddings.weight": torch.zeros(2, width),
    }
    modules: dict[str, Any] = {"embeddings.LayerNorm": model.norm}
    for layer, block in enumerate(model.layers):
        prefix = f"encoder.layer.{layer}"
        attention, mlp = block.mixer, block.mlp
        assert isinstance(attention, Attention) and mlp is not None
        modules |= {
            f"{prefix}.attention.output.dense": attention.output,
            f"{prefix}.attention.output.LayerNorm": block.mixer_norm,
            f"{prefix}.intermediate.dense": mlp.up,
            f"{prefix}.output.dense": mlp.down,
            f"{prefix}.output.LayerNorm": block.mlp_norm,
        }
        for kind in ("weight", "bias"):
            parts = getattr(attention.qkv, kind).chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                state[f"{prefix}.attention.self.{name}.{kind}"] = part
    for name, module in modules.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return state


@torch.no_grad()
@pytest.mark.parametrize("n_tokens", [1, 2, 9])
def test_relative_scores_equal_those_of_a_loop(n_tokens: int) -> None:
    model, ids = make(**RELATIVE, n_layers=1), tokens(2, n_tokens)
    attention = model.layers[0].mixer
    assert isinstance(attention, Attention) and attention.relative is not None
    nn.init.normal_(attention.relative.embedding.weight, generator=torch.Generator().manual_seed(2))
    with recorded_maps(model) as maps:
        probed = model(ids)
    torch.testing.assert_close(probed, model(ids), rtol=1e-5, atol=1e-5)
    x = model.layers[0].mixer_norm(model.embedding(ids))
    query, key, _ = attention.qkv(x).chunk(3, dim=-1)
    query, key = (part.unflatten(-1, (4, 4)) for part in (query, key))
    middle = model.max_seq_len - 1
    scores = torch.empty(2, 4, n_tokens, n_tokens)
    for i in range(n_tokens):
        for j in range(n_tokens):
            r = attention.relative.embedding.weight[middle + j - i]
            products = query[:, i] * key[:, j] + query[:, i] * r + key[:, j] * r
            scores[:, :, i, j] = products.sum(-1) / math.sqrt(4)
    torch.testing.assert_close(maps[0], scores.softmax(-1))


@torch.no_grad()
def test_relative_positions_tell_order_and_keep_documents_apart() -> None:
    model, ids = make(**RELATIVE), tokens(1)
    turned = model(ids.flip(1)).flip(1)
    assert not torch.allclose(turned, model(ids), atol=1e-3)
    packed = model(ids, documents=torch.tensor([[0] * 5 + [1] * 7]))
    for span in (slice(0, 5), slice(5, 12)):
        torch.testing.assert_close(packed[:, span], model(ids[:, span]), rtol=1e-5, atol=1e-5)


def test_relative_positions_need_both_sides_and_attention() -> None:
    for keys in ({"causal": True}, {"implementation": "mamba2", "causal": True}):
        with pytest.raises(ValidationError, match="positions = relative needs attention and causal = false"):
            shape(**{**RELATIVE, **keys})


def test_dropout_falls_on_both_halves_and_embeddings_of_an_encoder() -> None:
    model = make(**BERT, dropout=0.5).train()
    torch.manual_seed(0)
    first = model(tokens())
    assert not torch.equal(first, model(tokens()))
    torch.manual_seed(0)
    assert torch.equal(first, model(tokens()))
