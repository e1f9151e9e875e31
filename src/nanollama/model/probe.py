"""Look into a model while it computes, and change what it computes.

What changes a model is a context manager around ordinary forward passes; outside of it a model runs its own
fast kernels, and after it the model is as it was. Layers and heads count from 0. Maps and heads are those of
layers whose mixer is attention, in models of ours and of Hugging Face.

Shapes: B rows, H heads, M queries and T keys (M = T unless tokens were read before), K head_dim, D d_model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from nanollama.errors import UserError
from nanollama.model.hugging_face import HuggingFaceModel
from nanollama.model.hugging_face_attention import attending_by
from nanollama.model.mixers.attention import Attention, Kernel, attend
from nanollama.model.mixers.mixer import Mixer
from nanollama.model.protocol import LanguageModel
from nanollama.model.shell import Block, Shell

EditMaps = Callable[[Tensor], Tensor]
"""From the attention maps (B, H, M, T) of a layer to those that are used instead."""
Ablation = Literal["zero", "mean"]
"""What a part that is taken out writes: nothing, or its mean over the rows and positions of the batch."""


def mlp_layers(model: LanguageModel) -> list[int]:
    """The layers whose MLP can be taken out: those of a model of ours that have one."""
    return [layer for layer, block in enumerate(_blocks(model)) if block.mlp is not None]


def mixer_names(model: LanguageModel) -> list[str]:
    """What mixes tokens in each layer, such as ``attention`` or ``mamba2``."""
    if isinstance(model, HuggingFaceModel):
        return [Attention.name] * len({layer for layer, _ in model.heads})
    return [block.mixer.name for block in _blocks(model)]


def mixer_of(model: LanguageModel, layer: int) -> Mixer:
    """What mixes tokens in a layer of a model of ours.

    Raises:
        UserError: it is not one of ours.
    """
    return _block(model, layer).mixer


def attention_heads(model: LanguageModel) -> list[tuple[int, int]]:
    """Every head that can be looked at, as (layer, head): those of the layers that attend."""
    if isinstance(model, HuggingFaceModel):
        return model.heads
    return [
        (layer, head)
        for layer, block in enumerate(_blocks(model))
        if isinstance(block.mixer, Attention)
        for head in range(block.mixer.n_heads)
    ]


def attention_maps(query: Tensor, key: Tensor, mask: Tensor | None = None, *, causal: bool = True) -> Tensor:
    """How much each query attends to each key: (B, H, M, T), rows sum to 1. Arguments as in `attend`."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        mask = mask.tril() if causal else mask
    if mask.is_floating_point():
        return (scores + mask).softmax(dim=-1)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def mix(maps: Tensor, value: Tensor) -> Tensor:
    """Values (B, H_kv, T, K) averaged by attention maps (B, H, M, T): (B, H, M, K)."""
    return maps.to(value.dtype) @ value.repeat_interleave(maps.shape[1] // value.shape[1], dim=1)


@contextmanager
def recorded_maps(model: LanguageModel) -> Iterator[dict[int, Tensor]]:
    """Collects the attention maps of the forward pass inside: (B, H, M, T) of each layer that attends.

    Several passes leave the maps of the last one.
    """
    maps: dict[int, Tensor] = {}

    def recorder(layer: int) -> Kernel:
        def kernel(
            query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = True
        ) -> Tensor:
            maps[layer] = attention_maps(query, key, mask, causal=causal)
            return mix(maps[layer], value)

        return kernel

    with _kernels(model, {layer: recorder(layer) for layer, head in attention_heads(model) if head == 0}):
        yield maps


@contextmanager
def edited_maps(model: LanguageModel, edits: Mapping[int, EditMaps]) -> Iterator[None]:
    """Inside, the attention maps of these layers are changed by a function before they mix values."""

    def editor(edit: EditMaps) -> Kernel:
        def kernel(
            query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = True
        ) -> Tensor:
            return mix(edit(attention_maps(query, key, mask, causal=causal)), value)

        return kernel

    with _kernels(model, {layer: editor(edit) for layer, edit in edits.items()}):
        yield


@contextmanager
def ablated_heads(
    model: LanguageModel, heads: Collection[tuple[int, int]], how: Ablation = "zero"
) -> Iterator[None]:
    """Inside, heads (layer, head) write nothing, or their mean over the batch, whatever they attend to."""

    def ablator(kernel: Kernel, indices: list[int]) -> Kernel:
        def ablated(
            query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = True
        ) -> Tensor:
            mixed = kernel(query, key, value, mask, causal=causal).clone()
            written = mixed[:, indices]
            mixed[:, indices] = _instead(written, how, dims=(0, 2))
            return mixed

        return ablated

    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    kernels = {layer: ablator(_kernel(model, layer), indices) for layer, indices in by_layer.items()}
    with _kernels(model, kernels):
        yield


@contextmanager
def ablated_mixers(model: LanguageModel, layers: Collection[int]) -> Iterator[None]:
    """Inside, what mixes tokens in these layers writes nothing, whether it attends or not."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(mixer_of(model, layer).register_forward_hook(hook).remove)
        yield


@contextmanager
def ablated_mlps(model: LanguageModel, layers: Collection[int], how: Ablation = "zero") -> Iterator[None]:
    """Inside, the MLPs of these layers write nothing, or their mean over the batch.

    Raises:
        UserError: a layer has none.
    """

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return _instead(output, how, dims=(0, 1))

    with ExitStack() as stack:
        for layer in layers:
            mlp = _block(model, layer).mlp
            if mlp is None:
                raise UserError(f"Layer {layer} has no MLP to take out: the model was made with mlp = none.")
            stack.callback(mlp.register_forward_hook(hook).remove)
        yield


@contextmanager
def recorded_outputs(model: nn.Module, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Collects what submodules (``blocks.0.mlp``) return in the last forward pass inside, by name."""
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            outputs[name] = output.detach()

        return hook

    with ExitStack() as stack:
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(recorder(name)).remove)
        yield outputs


def linear_probe_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], ridge: float = 1e-3
) -> float:
    """How often a linear map of activations tells a label: least squares to one-hot labels, exact, no seed.

    Args:
        train: activations (n, D) and labels (n,) int64 from 0 to fit on.
        test: the same, to be right on.
        ridge: penalty on the squared weights, as a share of the mean variance of the activations.

    Returns:
        share of test labels that get the largest score; nan where there is nothing to fit or to test on.
    """
    (x, labels), (x_test, labels_test) = train, test
    if not len(labels) or not len(labels_test):
        return math.nan
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    one_hot = torch.nn.functional.one_hot(labels).double()
    gram = centred.T @ centred
    penalty = ridge * gram.diagonal().mean().clamp_min(1e-12)
    eye = torch.eye(len(gram), dtype=torch.float64, device=x.device)
    weights = torch.linalg.solve(gram + penalty * eye, centred.T @ (one_hot - one_hot.mean(dim=0)))
    scores = (x_test.double() - mean) @ weights + one_hot.mean(dim=0)
    return float((scores.argmax(dim=-1) == labels_test).double().mean())


def _instead(written: Tensor, how: Ablation, dims: tuple[int, ...]) -> Tensor:
    if how == "zero":
        return torch.zeros_like(written)
    return written.mean(dim=dims, keepdim=True).expand_as(written)


def _blocks(model: LanguageModel) -> list[Block]:
    return model.layers if isinstance(model, Shell) else []


def _block(model: LanguageModel, layer: int) -> Block:
    if not isinstance(model, Shell):
        raise UserError(f"Probes look into the blocks of a model of ours; a {type(model).__name__} has none.")
    return model.layers[layer]


def _attention(model: LanguageModel, layer: int) -> Attention:
    mixer = _block(model, layer).mixer
    if not isinstance(mixer, Attention):
        raise UserError(
            f"Layer {layer} has no attention: its mixer is {mixer.name}, which has no maps and no heads."
        )
    return mixer


def _kernel(model: LanguageModel, layer: int) -> Kernel:
    """What a layer attends by now."""
    if isinstance(model, HuggingFaceModel):
        return model.kernels.get(layer, attend)
    return _attention(model, layer).kernel


@contextmanager
def _kernels(model: LanguageModel, kernels: Mapping[int, Kernel]) -> Iterator[None]:
    """Inside, these layers use these kernels; afterwards their own again."""
    if isinstance(model, HuggingFaceModel):
        others = dict(model.kernels)
        model.kernels = {**others, **kernels}
        try:
            with attending_by(model.model, model.kernels):
                yield
        finally:
            model.kernels = others
        return
    attentions = {layer: _attention(model, layer) for layer in kernels}
    before = {layer: attention.kernel for layer, attention in attentions.items()}
    try:
        for layer, kernel in kernels.items():
            attentions[layer].kernel = kernel
        yield
    finally:
        for layer, kernel in before.items():
            attentions[layer].kernel = kernel
