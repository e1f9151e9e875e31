"""Every mixer of the library keeps the contract: alone, in other shells, and in stacks of two kinds."""

from __future__ import annotations

import pytest
import torch
from mixer_contract import CHECKS, build, documents_batch, shape, tokens

from nanollama.config import Config
from nanollama.errors import UserError
from nanollama.model.mixers import ATTENTION, MIXERS, register_mixer

MODELS: dict[str, dict[str, object]] = {
    **{name: {"implementation": name} for name in MIXERS},
    "grouped": {"n_kv_heads": 1},
    "gpt": {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True},
    "no positions, tied": {"positions": "none", "tied_embeddings": True},
    "no MLP": {"mlp": "none", "positions": "learned"},
    "two pi, wide heads": {"rope_two_pi": True, "head_dim": 6, "d_ff": 20},
    **{
        f"{name} and attention": {"implementation": [name, ATTENTION]} for name in MIXERS if name != ATTENTION
    },
}
BIDIRECTIONAL = [name for name, entry in MIXERS.items() if entry.bidirectional]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("keys", MODELS.values(), ids=MODELS)
def test_contract(keys: dict[str, object], check: object) -> None:
    check(shape(**keys))  # type: ignore[operator]


@torch.no_grad()
@pytest.mark.parametrize("implementation", BIDIRECTIONAL)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_without_causality_a_token_changes_logits_on_both_sides(implementation: str, positions: str) -> None:
    model = build(shape(implementation=implementation, causal=False, positions=positions))
    ids = tokens()
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 50
    differences = (model(changed) - model(ids)).abs().amax(dim=(0, 2))
    assert (differences > 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("implementation", BIDIRECTIONAL)
def test_without_causality_documents_of_a_row_are_still_apart(implementation: str) -> None:
    model = build(shape(implementation=implementation, causal=False))
    ids, documents = tokens(1), torch.tensor([[0] * 5 + [1] * 4 + [2] * 3])  # the last could be padding
    packed = model(ids, documents=documents)
    for span in (slice(0, 5), slice(5, 9)):
        torch.testing.assert_close(packed[:, span], model(ids[:, span]), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(ids, documents=documents), packed, rtol=0.1, atol=0.05)
        torch.testing.assert_close(model(ids[:, :5]), packed[:, :5], rtol=0.1, atol=0.05)


def test_a_model_that_sees_what_comes_cannot_decode() -> None:
    with pytest.raises(UserError, match="causal = false sees what comes after a token"):
        build(shape(causal=False)).make_state(1, 8)


def test_a_row_that_decodes_holds_one_document() -> None:
    model, batch = build(shape()), documents_batch(row_len=15)
    with pytest.raises(ValueError, match="one document a row"):
        model(batch.input_ids, documents=batch.documents, state=model.make_state(3, 15))


def test_a_full_state_says_so() -> None:
    model = build(shape())
    with pytest.raises(ValueError, match="holds 4 tokens a row; 5 asked for"):
        model(tokens(1, 5), state=model.make_state(1, capacity=4))


class _Width(Config):
    d_model: int = 3


def test_what_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match=f"There is a mixer '{ATTENTION}' already"):
        register_mixer(ATTENTION, "nowhere:Nothing")
    with pytest.raises(ValueError, match="cannot bring keys that every model has: d_model"):
        register_mixer("width", "nowhere:Nothing", _Width)
    assert "width" not in MIXERS
