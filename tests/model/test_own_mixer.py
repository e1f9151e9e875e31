"""A mixer from outside the library is told what it needs, and what it does wrong is said in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from mixer_contract import build, documents_batch, shape, tokens
from torch import Tensor, nn

from nanollama.model import ModelConfig, build_model
from nanollama.model.mixers import MIXERS, register_mixer
from nanollama.model.mixers.attention import Attention
from nanollama.model.shell import Shell


class Own(Attention):
    """Attention, by a name of one's own."""

    name: ClassVar[str] = "own"


class Scaled(Own):
    """It has weights that the shell does not know."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.plain = nn.LayerNorm(config.d_model, elementwise_affine=False)
        self.convolution = nn.Conv1d(config.d_model, config.d_model, 3)
        self.scale = nn.Parameter(torch.empty(config.d_model))


class Drawn(Scaled):
    """It draws them."""

    def init_weights(self, generator: torch.Generator) -> None:
        for parameter in (*self.convolution.parameters(), self.scale):
            parameter.normal_(0.0, 0.1, generator=generator)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The names are known while a test runs, and no longer."""
    register_mixer("own", f"{__name__}:Own", bidirectional=True, attends=True)
    register_mixer("untold", f"{__name__}:Own")
    for kind in (Scaled, Drawn):
        register_mixer(kind.__name__.lower(), f"{__name__}:{kind.__name__}", attends=True)
    yield
    for name in ("own", "untold", "scaled", "drawn"):
        del MIXERS[name]


@torch.no_grad()
@pytest.mark.parametrize("more", [(), ("mamba2",)], ids=["alone", "hybrid"])
def test_attention_by_another_name_is_told_positions_documents_and_what_decoding_sees(
    more: tuple[str, ...],
) -> None:
    ids, packed, found = tokens(), documents_batch(row_len=15), []
    for name in ("transformer", "own"):
        model = build(shape(implementation=[name, *more]))
        state = model.make_state(3, capacity=12)
        steps = []
        for start, stop in ((0, 7), (7, 12)):
            steps.append(model(ids[:, start:stop], state=state))
            state.advance(torch.full((3,), stop - start), stop)
        found.append([model(ids), model(packed.input_ids, documents=packed.documents), *steps])
    for expected, ours in zip(*found, strict=True):
        assert torch.equal(expected, ours)


def test_its_shape_is_checked_as_that_of_attention() -> None:
    for keys, message in (
        ({"n_heads": None}, "n_heads is missing: attention needs a number of heads"),
        ({"n_heads": 3}, "d_model = 16 is not a multiple of n_heads = 3"),
        ({"head_dim": 5}, "head_dim = 5 must be even"),
    ):
        with pytest.raises(ValueError, match=message):
            shape(implementation="own", **keys)
    assert shape(implementation="own", positions="relative", causal=False).uses_attention
    with pytest.raises(ValueError, match="positions = relative needs attention"):
        shape(implementation="mingru", positions="relative")


def test_attention_that_was_not_registered_as_such_is_not_left_without_positions_in_silence() -> None:
    with pytest.raises(ValueError, match=r"reads mask or rotary .* attends=True"):
        build(shape(implementation="untold"))(tokens())


def test_weights_that_nobody_draws_are_named() -> None:
    with pytest.raises(ValueError) as error:
        build(shape(implementation="scaled", n_layers=1))
    assert str(error.value).startswith(
        "init_weights has left blocks.0.own.scale, blocks.0.own.convolution.weight, "
        "blocks.0.own.convolution.bias unset: the shell draws linear maps"
    )
    build_model(shape(implementation="scaled", n_layers=1), torch.Generator(), is_to_be_loaded=True)
    first, again, other = (build(shape(implementation="drawn"), seed) for seed in (0, 0, 1))
    weights = [model.blocks[0].own.convolution.weight for model in (first, again, other)]  # type: ignore[union-attr,index]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@torch.no_grad()
@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (lambda x: x.mean(1, keepdim=True), r"shape \(3, 1, 16\)"),  # a sum would broadcast it
        (lambda x: x[..., :3], r"shape \(3, 12, 3\)"),
        (lambda x: (x, None), "a tuple"),
    ],
    ids=["one vector", "too narrow", "tuple"],
)
def test_what_a_mixer_returns_has_the_shape_of_the_stream(
    returned: object, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Own, "forward", lambda self, x, context, query_positions=None: returned(x))  # type: ignore[operator]
    with pytest.raises(
        ValueError, match=rf"mixer 'own' of layer 0 returned {found}, expected .* \(3, 12, 16\)"
    ):
        build(shape(implementation="own"))(tokens())


@torch.no_grad()
def test_a_mixer_heeds_the_positions_that_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Own, x: Tensor, context: object, query_positions: Tensor | None = None) -> Tensor:
        return x

    monkeypatch.setattr(Own, "forward", forward)
    model = build(shape(implementation="own"))
    assert isinstance(model, Shell) and model(tokens()).shape == (3, 12, 50)
    with pytest.raises(ValueError, match=r"of layer 1 returned shape \(3, 12, 16\), .* \(3, 2, 16\)"):
        model(tokens(), query_positions=torch.tensor([[3, 11]] * 3))
