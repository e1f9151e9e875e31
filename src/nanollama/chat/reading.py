"""A dialog as its model read and wrote it: who says what, how likely each token was, what was looked at.

Shapes: T tokens of a dialog, H heads, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nanollama.dialogs.generate import Completion, evaluating
from nanollama.dialogs.tools import Tool
from nanollama.dialogs.tools.protocol import FENCE
from nanollama.errors import UserError
from nanollama.model.probe import attention_heads, edited_maps, mixer_names
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import DialogTokenizer

QUESTION, REQUEST, ANSWER = "question", "request", "answer"
N_BEST = 5
"""Tokens that are named beside the one that is there."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Part(NamedTuple):
    """Tokens ``start`` to ``stop`` - 1 of a dialog, and who they come from: a tool by its own name."""

    who: str
    start: int
    stop: int
    is_written: bool
    """Did the model write them? Others were given to it."""


class Piece(NamedTuple):
    """What tokens ``start`` to ``stop`` - 1 show: a character may take several, a special token is one."""

    text: str
    start: int
    stop: int
    is_special: bool


class Likelihood(NamedTuple):
    """What a model expects at each token of a dialog but the first.

    Args:
        p: (T - 1,) probability of the token that is there.
        best: (T - 1, `N_BEST`) the most likely ids, in order.
        best_p: (T - 1, `N_BEST`) and their probabilities.
    """

    p: Tensor
    best: Tensor
    best_p: Tensor


def parts_of(
    completion: Completion, n_prompt: int, tokenizer: DialogTokenizer, tool: Tool | None
) -> list[Part]:
    """The turns of a dialog: its prompt of so many tokens, requests with their replies, and an answer."""
    ids, parts = completion.ids, [Part(QUESTION, 0, n_prompt, False)]
    place = n_prompt
    for reply in completion.replies:
        assert tool is not None, "who replied"
        stop = ids.index(tokenizer.role_id(tool.role), place) + 1
        parts.append(Part(REQUEST, place, stop, True))
        end = min(len(ids), stop + len(tokenizer.encode_reply(reply.text)))
        parts.append(Part(tool.who(tokenizer.request(ids[:stop])), stop, end, False))
        place = end
    if place < len(ids):
        parts.append(Part(last_turn(tokenizer.decode(ids[place:]), tool), place, len(ids), True))
    return parts


def last_turn(text: str, tool: Tool | None) -> str:
    """What the last turn of a model is: an answer, or a request that was never handed over."""
    return REQUEST if tool is not None and FENCE in text else ANSWER


def pieces_of(ids: Sequence[int], part: Part, tokenizer: DialogTokenizer) -> Iterator[Piece]:
    """The text of a part, piece by piece."""
    start, said = part.start, ""
    first = part.start
    for place in range(part.start, part.stop):
        if not tokenizer.is_text(ids[place]):
            if first < place:
                yield Piece(tokenizer.decode(ids[start:place])[len(said) :], first, place, False)
            yield Piece(tokenizer.decode(ids[place : place + 1]), place, place + 1, True)
            start = first = place + 1
            said = ""
            continue
        text = tokenizer.decode(ids[start : place + 1])
        if text.startswith(said) and not text.endswith(UNFINISHED):
            yield Piece(text[len(said) :], first, place + 1, False)
            first, said = place + 1, text
    if first < part.stop:
        yield Piece(tokenizer.decode(ids[start : part.stop])[len(said) :], first, part.stop, False)


def likelihood(model: LanguageModel, ids: Sequence[int]) -> Likelihood:
    """How likely each token is after those before it, in float32, the dialog read alone and whole."""
    targets = torch.tensor(ids[1:], device=model.device)
    with evaluating(model):
        logits = model(torch.tensor([ids[:-1]], device=model.device))[0]
        found = logits.softmax(dim=-1)
        best = found.topk(min(N_BEST, model.vocab_size), dim=-1)
        return Likelihood(found.gather(1, targets[:, None])[:, 0], best.indices, best.values)


def looked_at(model: LanguageModel, ids: Sequence[int], layer: int) -> Tensor:
    """(H, T) How much each head of a layer attends to each of these tokens while it chooses the next one.

    Raises:
        UserError: this layer has no maps.
    """
    if (layer, 0) not in attention_heads(model):
        raise UserError(why_no_maps(model, layer))
    rows: list[Tensor] = []

    def keep(maps: Tensor) -> Tensor:
        rows.append(maps[0, :, -1])
        return maps

    with evaluating(model), edited_maps(model, {layer: keep}):
        last = torch.tensor([[len(ids) - 1]], device=model.device)
        model(torch.tensor([ids], device=model.device), query_positions=last)
    return rows[-1]


def why_no_maps(model: LanguageModel, layer: int) -> str:
    """In a sentence."""
    name = mixer_names(model)[layer]
    return (
        f"Layer {layer} is {name}: it has no attention maps, for all that it knows of earlier tokens is in "
        "its state."
    )


def tokens_json(
    ids: Sequence[int], part: Part, likely: Likelihood, tokenizer: DialogTokenizer
) -> list[dict[str, Any]]:
    """The pieces of a part for the page: of one of several tokens, probabilities are multiplied."""
    found = []
    for piece in pieces_of(ids, part, tokenizer):
        token: dict[str, Any] = {"text": piece.text, "at": piece.stop - 1}
        if piece.is_special:
            token["special"] = True
        if piece.start > 0:
            token["p"] = _number(math.prod(likely.p[piece.start - 1 : piece.stop - 1].tolist()))
        if piece.start > 0 and piece.stop == piece.start + 1:
            at = piece.start - 1
            token["best"] = [
                [tokenizer.decode([index]), _number(p)]
                for index, p in zip(likely.best[at].tolist(), likely.best_p[at].tolist(), strict=True)
            ]
        found.append(token)
    return found


def _number(value: float) -> float | None:
    """With the digits that float32 has; None where a model has lost its numbers."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
