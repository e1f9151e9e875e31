"""A tensor made on another device than the model's is an error, without a GPU too: on the meta device."""

from __future__ import annotations

import pytest
import torch
from mixer_contract import documents_batch, shape

from nanollama.data.batch import Batch
from nanollama.model import build_model, model_class
from nanollama.model.mixers import ATTENTION, MIXERS
from nanollama.model.protocol import LanguageModel
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig, build_optimizer

META = torch.device("meta")
MODELS: dict[str, dict[str, object]] = {
    **{name: {"implementation": name} for name in MIXERS},
    **{
        f"{name} and attention": {"implementation": [name, ATTENTION]} for name in MIXERS if name != ATTENTION
    },
    "learned positions": {"positions": "learned"},
    "relative positions": {"positions": "relative", "causal": False},
    "dropout": {"dropout": 0.1, "tied_embeddings": True},
}
CAUSAL = {name: keys for name, keys in MODELS.items() if keys.get("causal", True)}


def on_meta(keys: dict[str, object]) -> LanguageModel:
    return build_model(shape(**keys), torch.Generator().manual_seed(0)).to(META)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("keys", MODELS.values(), ids=MODELS)
def test_a_step_of_training(keys: dict[str, object], packed: bool) -> None:
    model, batch = on_meta(keys), documents_batch(row_len=15) if packed else documents_batch()
    optimizer = build_optimizer(OptimizerConfig(learning_rate=1e-2), model)
    loss = next_token_loss(model, batch.to(META))
    loss.backward()
    assert loss.device == META
    assert all(
        parameter.grad is not None and parameter.grad.device == META for parameter in model.parameters()
    )
    optimizer.step()


@torch.no_grad()
@pytest.mark.parametrize("keys", CAUSAL.values(), ids=CAUSAL)
def test_decoding(keys: dict[str, object]) -> None:
    model = on_meta(keys).eval()
    state = model.make_state(3, capacity=8)
    ids = torch.zeros(3, 4, dtype=torch.int64, device=META)
    n_new = torch.full((3,), 4, device=META)
    assert model(ids, state=state.part(slice(0, 3), n_new)).device == META
    state.advance(n_new, 4)
    assert model(ids[:, :1], state=state).shape == (3, 1, 50)


def test_a_tensor_of_the_cpu_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(model_class(shape())):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
            return super().forward(input_ids, *args, **kwargs) + torch.zeros(50)

    batch: Batch = documents_batch().to(META)
    with pytest.raises(RuntimeError, match="device"):
        next_token_loss(Careless(shape()).to(META), batch)
