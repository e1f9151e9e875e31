"""What a model looks at and answers, as numbers: maps, scores of heads, answers when parts are changed.

Shapes: B sequences of one length, T tokens, A positions where a sequence is asked, P patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from nanollama.model.influence import layer_influence, token_influence
from nanollama.model.probe import (
    ablated_heads,
    ablated_mixers,
    attention_heads,
    edited_maps,
    mixer_names,
    recorded_maps,
)
from nanollama.model.protocol import LanguageModel
from nanollama.report.attention.exhibits import Pattern, Shown, by_length

N_TOLD = 3
"""Tokens that are told of an answer, the likeliest first."""
WHOLE = "model"


@dataclass(frozen=True)
class View:
    """What a map is of.

    Args:
        kind: of the mixer, such as ``attention``; ``model``: of all layers together.
        layer: counted from 0; None: of the whole model.
        head: counted from 0; None where it is no head: then the map is one of influence.
    """

    kind: str
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True)
class Change:
    """What is put in the place of a head or layer.

    Args:
        view: which.
        pattern: its attention goes where this says, from queries that are part of it; None: it writes
            nothing.
    """

    view: View
    pattern: Pattern | None


@dataclass(frozen=True)
class Answers:
    """What a model answers where a sequence asks.

    Args:
        tokens: (A, N_TOLD) int64, the likeliest.
        probabilities: (A, N_TOLD) of these.
        of_right: (A,) probability of the right one.
    """

    tokens: Tensor
    probabilities: Tensor
    of_right: Tensor


def views_of(model: LanguageModel) -> list[View]:
    """All that there is a map of, in order: heads and headless layers, then the whole model."""
    heads = attention_heads(model)
    views = []
    for layer, kind in enumerate(mixer_names(model)):
        of_layer: list[int | None] = [head for at, head in heads if at == layer]
        views += [View(kind, layer, head) for head in of_layer or [None]]
    return [*views, View(WHOLE)]


def changes_of(views: Sequence[View], patterns: Sequence[Pattern]) -> list[Change]:
    """Each head and layer off, and each head on each pattern."""
    parts = [view for view in views if view.layer is not None]
    return [
        Change(view, pattern)
        for view in parts
        for pattern in [None, *(() if view.head is None else patterns)]
    ]


@torch.no_grad()
def maps_of(model: LanguageModel, views: Sequence[View], tokens: Tensor) -> Tensor:
    """Maps (B, views, T, T) on sequences (B, T), rows are queries: attention, or influence."""
    tokens = tokens.to(model.device)
    layers = [view.layer for view in views if view.head is None and view.layer is not None]
    with recorded_maps(model) as attention:
        model(tokens)
    rows = []
    for number, sequence in enumerate(tokens):
        of_layers = layer_influence(model, layers, sequence)
        found = []
        for view in views:
            if view.layer is None:
                found.append(token_influence(model, sequence))
            elif view.head is None:
                found.append(of_layers[view.layer])
            else:
                found.append(attention[view.layer][number, view.head])
        rows.append(torch.stack(found).cpu())
    return torch.stack(rows)


def masks_of(pattern: Pattern, tokens: Tensor, causal: bool) -> Tensor:
    """Where a pattern looks in each of some sequences (B, T): (B, T, T) bool."""
    masks = torch.stack([pattern.mask(row) for row in tokens.cpu()])
    return masks.tril() if causal else masks


@torch.no_grad()
def scores_of(
    model: LanguageModel, views: Sequence[View], sequences: Sequence[Shown], patterns: Sequence[Pattern]
) -> Tensor:
    """(views, P) mean attention of queries of a pattern on its keys; NaN without queries or heads."""
    sums = torch.full((len(views), len(patterns)), torch.nan, dtype=torch.float64)
    heads = [(number, view) for number, view in enumerate(views) if view.head is not None]
    sums[[number for number, _ in heads]] = 0.0
    counts = torch.zeros(len(patterns), dtype=torch.float64)
    for _, tokens in by_length(sequences):
        with recorded_maps(model) as maps:
            model(tokens.to(model.device))
        for place, pattern in enumerate(patterns):
            masks = masks_of(pattern, tokens, is_causal(model)).to(model.device)
            counts[place] += int(masks.any(dim=-1).sum())
            for number, view in heads:
                assert view.layer is not None
                sums[number, place] += float((maps[view.layer][:, view.head].double() * masks).sum())
    return sums / counts


@torch.no_grad()
def answers_of(
    model: LanguageModel, sequences: Sequence[Shown], change: Change | None = None
) -> list[Answers]:
    """What a model answers to each sequence, as it is or with a change."""
    answers: dict[int, Answers] = {}
    for numbers, tokens in by_length(sequences):
        tokens = tokens.to(model.device)
        if change is None:
            logits = model(tokens)
        else:
            with changed(model, change, tokens):
                logits = model(tokens)
        for number, row in zip(numbers, logits.cpu(), strict=True):
            asked = sequences[number].answers
            likely = row[list(asked)].softmax(dim=-1)
            top = likely.topk(min(N_TOLD, likely.shape[-1]), dim=-1)
            right = torch.tensor(list(asked.values()))
            answers[number] = Answers(top.indices, top.values, likely[torch.arange(len(right)), right])
    return [answers[number] for number in range(len(sequences))]


def changed(model: LanguageModel, change: Change, tokens: Tensor) -> AbstractContextManager[None]:
    """Inside, the model reads these sequences (B, T) with a head or layer changed."""
    view, pattern = change.view, change.pattern
    assert view.layer is not None
    if view.head is None:
        return ablated_mixers(model, [view.layer])
    if pattern is None:
        return ablated_heads(model, [(view.layer, view.head)])
    masks = masks_of(pattern, tokens, is_causal(model)).to(tokens.device)

    def edit(maps: Tensor) -> Tensor:
        edited = maps.clone()
        edited[:, view.head] = ideal_map(maps[:, view.head], masks)
        return edited

    return edited_maps(model, {view.layer: edit})


def ideal_map(maps: Tensor, masks: Tensor) -> Tensor:
    """Maps (B, T, T) whose queries attend alike to all keys of a pattern; queries without one, as before."""
    n_keys = masks.sum(dim=-1, keepdim=True)
    return torch.where(n_keys > 0, masks / n_keys.clamp_min(1), maps).to(maps.dtype)


def is_causal(model: LanguageModel) -> bool:
    """Does no token see what comes after it? Models of Hugging Face that we know are all such."""
    return bool(getattr(model.config, "causal", True))
