"""Influence is what its docstrings say: tokens and inputs are replaced one by one, the rest is compared."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nanollama.model import ModelConfig, build_model
from nanollama.model.influence import layer_influence, token_influence
from nanollama.model.probe import recorded_outputs
from nanollama.model.shell import Shell

IDS = torch.tensor([3, 1, 4, 1, 5, 9, 2])
RECURRENT = ("mamba2", "hawk", "mingru", "minlstm")
KEYS = {"d_model": 16, "n_heads": 2, "d_state": 4, "conv_size": 2, "n_layers": 4, "vocab_size": 11}


def make(mixers: tuple[str, ...], **keys: object) -> Shell:
    config = ModelConfig.model_validate({"implementation": mixers, **KEYS, **keys})
    model = build_model(config, torch.Generator().manual_seed(0)).eval()
    assert isinstance(model, Shell)
    return model


@torch.no_grad()
def token_by_token(model: Shell) -> Tensor:
    """The influence of tokens, each replaced by one more token whose embedding is the mean."""
    table = model.embedding.weight.clone()
    usual = model(IDS[None])[0].softmax(-1)
    model.embedding.weight = torch.nn.Parameter(torch.cat([table, table[IDS].mean(0, keepdim=True)]))
    columns = []
    for place in range(len(IDS)):
        changed = IDS.clone()
        changed[place] = len(table)
        columns.append((model(changed[None])[0].softmax(-1) - usual).abs().sum(-1) / 2)
    model.embedding.weight = torch.nn.Parameter(table)
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize(
    "model",
    [make(("transformer",)), make(("transformer", *RECURRENT[:3])), make(("transformer",), causal=False)],
    ids=["attention", "hybrid", "bidirectional"],
)
def test_influence_of_tokens_is_that_of_replacing_each(model: Shell) -> None:
    found = token_influence(model, IDS)
    assert torch.allclose(found, token_by_token(model), atol=1e-5)
    assert (found >= 0).all() and (found <= 1 + 1e-6).all() and found.diagonal().max() > 1e-3
    assert (found.triu(1).abs().max() < 1e-5) == model.config.causal
    assert not model.embedding._forward_hooks


def test_influence_does_not_depend_on_how_many_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(("transformer",))
    found = token_influence(model, IDS)
    monkeypatch.setattr("nanollama.model.influence.MAX_NUMBERS", 2 * len(IDS) * model.vocab_size)
    assert torch.allclose(token_influence(model, IDS), found, atol=1e-6)


@torch.no_grad()
def test_influence_in_a_layer_is_that_of_replacing_each_input() -> None:
    model = make(RECURRENT)
    with recorded_outputs(model, [f"blocks.{n}.{name}_norm" for n, name in enumerate(RECURRENT)]) as reads:
        model(IDS[None])
    context = model._context(IDS[None], None, None)
    found = layer_influence(model, range(4), IDS)
    for layer, block in enumerate(model.layers):
        read = reads[f"blocks.{layer}.{block.mixer.name}_norm"]
        written = block.mixer(read, context)[0]
        for place in range(len(IDS)):
            changed = read.clone()
            changed[0, place] = read[0].mean(0)
            then = block.mixer(changed, context)[0]
            expected = (then - written).norm(dim=-1) / (then.norm(dim=-1) + written.norm(dim=-1))
            assert torch.allclose(found[layer][:, place], expected, atol=1e-5)
        assert found[layer].triu(1).abs().max() < 1e-5, "what comes later changes nothing"
        assert 0 < found[layer].max() <= 1
