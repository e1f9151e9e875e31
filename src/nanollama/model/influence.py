"""How much one token matters at another, in layers without attention maps and in a whole model.

A token is taken away by putting a mean in its place; what then changes elsewhere is its influence there. The
numbers lie between 0, nothing changes, and 1.

Shapes: T tokens, D d_model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nanollama.model.hugging_face import HuggingFaceModel
from nanollama.model.probe import mixer_of
from nanollama.model.protocol import LanguageModel
from nanollama.model.shell import Shell

MAX_NUMBERS = 1 << 24
"""Of logits that are held at once."""


@torch.no_grad()
def layer_influence(model: LanguageModel, layers: Collection[int], tokens: Tensor) -> dict[int, Tensor]:
    """How much what a layer reads at s matters to what its mixer writes at t: (T, T) each, rows are t.

    What the mixer reads at s is replaced by the mean of what it reads over the T positions. With y its output
    at t as it is and y' its output then, the influence is ``|y' - y| / (|y'| + |y|)``, norms being Euclidean,
    and 0 where both are 0: 0 says that nothing changes, and 1 that what is written turns round or vanishes.

    Args:
        model: of ours, in evaluation mode.
        layers: which.
        tokens: (T,) int64, one sequence.
    """
    found = {}
    with _recorded_inputs(model, layers) as inputs:
        model(tokens[None])
    for layer in layers:
        read, *others = inputs[layer]
        n_tokens = read.shape[1]
        written = mixer_of(model, layer)(read, *others)
        taken = read.expand(n_tokens, -1, -1).clone()
        here = torch.arange(n_tokens, device=read.device)
        taken[here, here] = read.mean(dim=1)
        then = mixer_of(model, layer)(taken, *others)
        sizes = then.norm(dim=-1) + written.norm(dim=-1)
        found[layer] = ((then - written).norm(dim=-1) / sizes.clamp_min(1e-30)).T.float()
    return found


@torch.no_grad()
def token_influence(model: LanguageModel, tokens: Tensor) -> Tensor:
    """How much token s matters to what the model tells at t: (T, T), rows are t.

    The embedding of token s is replaced by the mean of the embeddings of the T tokens; where it stands is not
    forgotten. The influence is the total variation distance, half the summed absolute differences, between
    the model's distributions of the next token (or, without ``causal``, of the token here) at t, as it is and
    then.

    Args:
        model: in evaluation mode.
        tokens: (T,) int64, one sequence.
    """
    assert isinstance(model, Shell | HuggingFaceModel)
    n_tokens = len(tokens)
    n_at_once = max(1, MAX_NUMBERS // (n_tokens * model.vocab_size))
    usual = model(tokens[None]).softmax(dim=-1)
    rows = []
    for places in torch.arange(n_tokens, device=tokens.device).split(n_at_once):

        def take(module: nn.Module, inputs: Any, embedded: Tensor, places: Tensor = places) -> Tensor:
            changed = embedded.clone()
            changed[torch.arange(len(places)), places] = embedded.mean(dim=1)
            return changed

        hook = model.embedding.register_forward_hook(take)
        try:
            then = model(tokens.expand(len(places), -1)).softmax(dim=-1)
        finally:
            hook.remove()
        rows.append((then - usual).abs().sum(dim=-1) / 2)
    return torch.cat(rows).T


@contextmanager
def _recorded_inputs(model: LanguageModel, layers: Collection[int]) -> Iterator[dict[int, tuple[Any, ...]]]:
    """Collects what the mixers of these layers are given in the forward pass inside."""
    inputs: dict[int, tuple[Any, ...]] = {}
    with ExitStack() as stack:
        for layer in layers:

            def keep(module: nn.Module, given: tuple[Any, ...], layer: int = layer) -> None:
                inputs[layer] = given

            stack.callback(mixer_of(model, layer).register_forward_pre_hook(keep).remove)
        yield inputs
