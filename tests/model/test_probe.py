"""Probes see what the model computes, change what they say, and leave no trace."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nanollama.model import ModelConfig, build_model
from nanollama.model.mixers.attention import attend
from nanollama.model.positions import visible_until
from nanollama.model.probe import (
    ablated_heads,
    ablated_mixers,
    ablated_mlps,
    attention_maps,
    edited_maps,
    linear_probe_accuracy,
    mix,
    mixer_names,
    recorded_maps,
    recorded_outputs,
)
from nanollama.model.protocol import LanguageModel

IDS = torch.arange(24).reshape(3, 8) % 11


def make(**keys: object) -> LanguageModel:
    shape = {"vocab_size": 11, "d_model": 16, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "norm": "layer"}
    config = ModelConfig.model_validate({"implementation": "transformer", **shape, **keys})
    return build_model(config, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.no_grad():
        yield


def heads(n: int, length: int, seed: int) -> Tensor:
    return torch.randn(2, n, length, 6, generator=torch.Generator().manual_seed(seed))


def test_maps_and_mix_are_the_attention_that_the_kernel_computes() -> None:
    query, key, value = heads(4, 7, 0), heads(2, 7, 1), heads(2, 7, 2)
    maps = attention_maps(query, key)
    assert torch.allclose(maps.sum(-1), torch.ones(2, 4, 7))
    assert (maps.triu(1) == 0).all()
    assert torch.allclose(mix(maps, value), attend(query, key, value), atol=1e-6)
    mask = visible_until(torch.tensor([[5, 2], [6, 0]]), 7)
    some = attention_maps(query[:, :, :2], key, mask)
    assert torch.allclose(mix(some, value), attend(query[:, :, :2], key, value, mask), atol=1e-6)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_recording_changes_nothing(positions: str) -> None:
    model = make(positions=positions, bias=True)
    plain = model(IDS)
    with recorded_maps(model) as maps:
        assert torch.allclose(model(IDS), plain, atol=1e-5)
    assert {layer: tuple(found.shape) for layer, found in maps.items()} == dict.fromkeys(
        range(3), (3, 4, 8, 8)
    )
    assert torch.equal(model(IDS), plain), "afterwards the model computes as before, to the bit"
    with recorded_maps(model) as asked:
        model(IDS, query_positions=torch.tensor([[7], [3], [5]]))
    assert all(torch.allclose(asked[layer], maps[layer], atol=1e-6) for layer in range(3))


def test_edited_maps_are_used() -> None:
    model = make()
    plain = model(IDS)
    with edited_maps(model, {0: lambda maps: maps, 2: lambda maps: maps}):
        assert torch.allclose(model(IDS), plain, atol=1e-5)

    def to_the_first(maps: Tensor) -> Tensor:
        ideal = torch.zeros_like(maps)
        ideal[..., 0] = 1.0
        return ideal

    everywhere = dict.fromkeys(range(3), to_the_first)
    with edited_maps(model, everywhere):
        changed = model(IDS)
        other = IDS.clone()
        other[:, 3] = (other[:, 3] + 1) % 11
        with recorded_outputs(model, ["blocks.2"]) as outputs:
            model(IDS)
            before = outputs["blocks.2"]
            model(other)
            after = outputs["blocks.2"]
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.allclose(before[:, 4:], after[:, 4:], atol=1e-5), "nobody attends to token 3 any more"


def test_ablated_heads_write_nothing_or_their_mean() -> None:
    model = make()
    with _inputs_of(model, "blocks.1.attention.output") as seen:
        plain = model(IDS)
    as_before = seen[0].unflatten(-1, (4, -1))
    means = as_before.mean(dim=(0, 1))
    for how in ("zero", "mean"):
        with (
            ablated_heads(model, [(1, 0), (1, 3)], how),
            _inputs_of(model, "blocks.1.attention.output") as seen,
        ):
            model(IDS)
        written = seen[0].unflatten(-1, (4, -1))
        assert torch.equal(written[:, :, 1:3], as_before[:, :, 1:3]), "others write as before"
        expected = means if how == "mean" else torch.zeros_like(means)
        assert torch.allclose(written[:, :, [0, 3]], expected[[0, 3]].expand(3, 8, 2, 4), atol=1e-6)
    assert not torch.allclose(means[0], means[3], atol=1e-3), "each its own mean"
    with ablated_heads(model, []):
        assert torch.equal(model(IDS), plain)


def test_ablated_mlps_write_nothing_or_their_mean() -> None:
    model = make()
    with recorded_outputs(model, ["blocks.1.mlp"]) as outputs:
        model(IDS)
    expected = outputs["blocks.1.mlp"].mean(dim=(0, 1))
    with ablated_mlps(model, [1], "zero"), recorded_outputs(model, ["blocks.1.mlp"]) as outputs:
        model(IDS)
    assert (outputs["blocks.1.mlp"] == 0).all()
    with ablated_mlps(model, [1], "mean"), recorded_outputs(model, ["blocks.1.mlp"]) as outputs:
        model(IDS)
    assert torch.allclose(outputs["blocks.1.mlp"], expected.expand(3, 8, 16), atol=1e-6)


def test_everything_is_undone_also_after_an_error() -> None:
    model = make()
    plain = model(IDS)
    for context in (
        edited_maps(model, {1: lambda maps: 0 * maps}),
        ablated_heads(model, [(0, 1)]),
        ablated_mlps(model, [0]),
        recorded_maps(model),
        recorded_outputs(model, ["blocks.0"]),
    ):
        with pytest.raises(KeyError), context:
            raise KeyError
        assert torch.equal(model(IDS), plain)
    assert all(block.attention.kernel is attend for block in model.blocks)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_linear_probe_reads_what_is_linear_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 12, generator=generator)
    linear = (x @ torch.randn(12, 3, generator=generator)).argmax(-1)
    noise = torch.randint(3, (600,), generator=generator)
    for labels, low, high in ((linear, 0.85, 1.0), (noise, 0.2, 0.47)):
        accuracy = linear_probe_accuracy((x[:400], labels[:400]), (x[400:], labels[400:]))
        assert low <= accuracy <= high
    constant = torch.ones(10, 4)
    assert linear_probe_accuracy((constant, torch.ones(10).long()), (constant, torch.ones(10).long())) == 1.0


@pytest.mark.parametrize("n_fitted", [0, 3])
def test_a_linear_probe_of_nothing_is_no_number(n_fitted: int) -> None:
    x, labels = torch.randn(3, 4), torch.tensor([0, 1, 0])
    train, test = (x[:n_fitted], labels[:n_fitted]), (x[n_fitted:], labels[n_fitted:])
    assert math.isnan(linear_probe_accuracy(train, test))


def test_a_linear_probe_does_not_mind_where_activations_lie_and_knows_what_is_common() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 12, generator=generator)
    labels = (x @ torch.randn(12, 3, generator=generator)).argmax(-1)

    def accuracy(x: Tensor, labels: Tensor, ridge: float = 1e-3) -> float:
        return linear_probe_accuracy((x[:400], labels[:400]), (x[400:], labels[400:]), ridge)

    assert accuracy(x + 100.0, labels) == accuracy(x, labels) > 0.85
    common = torch.where(torch.rand(600, generator=generator) < 0.7, 2, labels)
    share = float((common[400:] == 2).double().mean())
    assert accuracy(torch.ones(600, 4), common) == share, "nothing to see: the label that is common"
    assert accuracy(x, common, ridge=1e9) == share, "nothing believed"


class _inputs_of:
    """Collects what a submodule is given."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        self.seen: list[Tensor] = []
        self.handle = model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs: self.seen.append(inputs[0])
        )

    def __enter__(self) -> list[Tensor]:
        return self.seen

    def __exit__(self, *error: object) -> None:
        self.handle.remove()


def test_a_mixer_that_is_taken_out_writes_nothing() -> None:
    model = make(implementation=("transformer", "mingru", "transformer"))
    plain = model(IDS)
    with ablated_mixers(model, [1]), recorded_outputs(model, ["blocks.1.mingru"]) as outputs:
        without = model(IDS)
    assert (outputs["blocks.1.mingru"] == 0).all() and not torch.allclose(without, plain, atol=1e-3)
    assert torch.equal(model(IDS), plain)
    assert mixer_names(model) == ["attention", "mingru", "attention"]
