"""What a model makes of dialogs whose right course is known, most of them without decoding.

If each token of the assistant is the most likely one after the tokens before it, and the tool replies what
the dialog says it replies, then greedy decoding writes exactly this dialog: one forward pass over it tells.
Where the model departs from the dialog, what comes before is certain, and decoding goes on from there. Logits
that rounding could put in another order (`nanollama.dialogs.generate.TIE`) count as a departure, so every
completion is the one that `generate` returns for the dialog's prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F

from nanollama.data.batch import IGNORE, collate
from nanollama.dialogs.generate import Completion, continue_dialogs, evaluating, most_likely, token_limit
from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import DialogTokenizer, EncodedDialog, Message

N_ROWS = 32
"""Dialogs in one forward pass: enough to keep the processor busy, few enough for its caches."""


class Attempt(NamedTuple):
    """What a model made of a dialog.

    Args:
        completion: what it writes after the dialog's prompt.
        loss_nats: (n,) float32, cross entropy of each token the assistant should write.
    """

    completion: Completion
    loss_nats: np.ndarray


def attempt_dialogs(
    model: LanguageModel,
    tokenizer: DialogTokenizer,
    dialogs: Sequence[Sequence[Message]],
    tool: Tool | None = None,
    *,
    max_new_tokens: int,
    batch_size: int = 1024,
) -> list[Attempt]:
    """Let a model write dialogs from the assistant's first turn on, and weigh how they should be written.

    Args:
        model: run in float32, in evaluation mode; its mode is restored.
        tokenizer: names the special tokens.
        dialogs: as they should be; each ends with a turn of the assistant.
        tool: asked what the dialogs ask, in one batch, and again by the model where it departs from them.
        max_new_tokens: longest continuation of a prompt, as in `generate`.
        batch_size: dialogs decoded side by side, as in `generate`.

    Raises:
        ValueError: a dialog does not end with the assistant, or is too long for the model.
    """
    encoded = [_encode(tokenizer, messages, model.max_seq_len) for messages in dialogs]
    limits = [token_limit(model, _prompt(dialog), max_new_tokens) for dialog in encoded]
    with evaluating(model):
        readings = _read(model, encoded)
    completions = [
        _certain_part(tokenizer, dialog, reading.is_certain, said, tool)
        if len(dialog) <= limit
        else Completion(_prompt(dialog))
        for dialog, limit, reading, said in zip(
            encoded, limits, readings, _ask(tokenizer, dialogs, tool), strict=True
        )
    ]
    departed = [index for index, completion in enumerate(completions) if completion.ending != "end"]
    written = continue_dialogs(
        model,
        tokenizer,
        [completions[index].ids for index in departed],
        tool,
        [limits[index] for index in departed],
        batch_size=batch_size,
    )
    for index, rest in zip(departed, written, strict=True):
        completions[index] = Completion(rest.ids, completions[index].replies + rest.replies, rest.ending)
    return list(map(Attempt, completions, [reading.loss_nats for reading in readings]))


@dataclass(frozen=True)
class _Reading:
    """For each token of the assistant, (n,): would decoding surely write it, and its cross entropy."""

    is_certain: np.ndarray
    loss_nats: np.ndarray


@dataclass(frozen=True)
class _Said:
    """What the tool replies to a request of a dialog, and whether this is what the dialog says."""

    reply: Reply
    is_expected: bool


def _encode(tokenizer: DialogTokenizer, messages: Sequence[Message], max_seq_len: int) -> EncodedDialog:
    dialog = tokenizer.encode_dialog(messages)
    if not dialog.loss_mask[-1]:
        raise ValueError(f"A dialog ends with a turn of the assistant, got {list(messages)}.")
    if len(dialog) - 1 > max_seq_len:
        raise ValueError(
            f"A dialog of {len(dialog)} tokens is too long for a model that reads {max_seq_len}."
        )
    return dialog


def _prompt(dialog: EncodedDialog) -> list[int]:
    return dialog.ids[: int(dialog.loss_mask.argmax())].tolist()


def _read(model: LanguageModel, encoded: Sequence[EncodedDialog]) -> list[_Reading]:
    """One forward pass over each dialog, in batches of like length."""
    readings: dict[int, _Reading] = {}
    by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    for start in range(0, len(encoded), N_ROWS):
        chosen = by_length[start : start + N_ROWS]  # sorted as `collate` would, so rows stay in this order
        ids, masks = [encoded[i].ids for i in chosen], [encoded[i].loss_mask for i in chosen]
        batch = collate(ids, masks).to(model.device)
        logits = model(batch.input_ids, query_positions=batch.query_positions)
        tokens, is_tie = most_likely(logits)
        is_certain = ((tokens == batch.targets) & ~is_tie).cpu().numpy()
        losses = F.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="none"
        )
        loss_nats = losses.view_as(batch.targets).cpu().numpy()
        for row, (index, mask) in enumerate(zip(chosen, masks, strict=True)):
            n_written = int(mask.sum())
            readings[index] = _Reading(is_certain[row, :n_written], loss_nats[row, :n_written])
    return [readings[index] for index in range(len(encoded))]


def _ask(
    tokenizer: DialogTokenizer, dialogs: Sequence[Sequence[Message]], tool: Tool | None
) -> list[list[_Said]]:
    """What the tool replies to the requests of each dialog, in order; one batch for all."""
    if tool is None:
        return [[] for _ in dialogs]
    calls = [
        (index, request.content, reply.content)
        for index, messages in enumerate(dialogs)
        for request, reply in pairwise(messages)
        if (request.role, reply.role) == (tokenizer.assistant, tool.role)
    ]
    replies = tool.reply([request for _, request, _ in calls])
    said: list[list[_Said]] = [[] for _ in dialogs]
    for (index, _, expected), reply in zip(calls, replies, strict=True):
        said[index].append(_Said(reply, reply.text == expected))
    return said


def _certain_part(
    tokenizer: DialogTokenizer,
    dialog: EncodedDialog,
    is_certain: np.ndarray,
    said: Sequence[_Said],
    tool: Tool | None,
) -> Completion:
    """The beginning of a dialog that decoding surely writes; its ending is ``end`` if that is all of it."""
    tool_id = None if tool is None else tokenizer.role_id(tool.role)
    replies: list[Reply] = []
    for position, certain in zip(np.flatnonzero(dialog.loss_mask), is_certain, strict=True):
        token = int(dialog.ids[position])
        if not certain:
            break
        if token == tool_id:
            if not said[len(replies)].is_expected:
                break
            replies.append(said[len(replies)].reply)
        elif not tokenizer.is_text(token) and token != tokenizer.end_id:
            break
    else:
        return Completion(dialog.ids.tolist(), replies, "end")
    return Completion(dialog.ids[:position].tolist(), replies)
