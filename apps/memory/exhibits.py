"""What the explorer shows of a run: questions it is examined on, with the dialogs that would be right."""

from __future__ import annotations

from itertools import zip_longest

import torch
from torch import Tensor

from apps.memory.dataset.dialogs import Dialog
from apps.memory.dataset.people import ATTRIBUTES
from apps.memory.recall import choose_questions
from apps.memory.samples import SET_NAMES
from apps.memory.settings import MemoryConfig
from apps.memory.sources import tokenizer_of
from nanollama.report.attention.exhibits import Exhibits, Pattern, Shown
from nanollama.tokenizer import DialogTokenizer

N_EACH = 16
"""Dialogs of each set."""


def exhibits(config: MemoryConfig) -> Exhibits:
    """Dialogs of each set that recall is measured on, the sets by turns.

    Raises:
        UserError: there is no tokenizer, or too few people were left out of the training.
    """
    tokenizer = tokenizer_of(config)
    by_set = []
    for name in config.recall.sets:
        # Dialogs come person by person, attribute by attribute: this stride changes both each time.
        dialogs = choose_questions(name, config)[:: len(ATTRIBUTES) + 1][:N_EACH]
        by_set.append([shown_of(tokenizer, name, dialog) for dialog in dialogs])
    roles = [tokenizer.special_ids[role] for role in tokenizer.roles]
    return Exhibits(
        sequences=tuple(shown for turn in zip_longest(*by_set) for shown in turn if shown is not None),
        where="questions that recall is measured on, with the dialogs that would be right",
        spell=lambda token: tokenizer.decode([token]),
        patterns=(beginning_of_turn(roles),),
        marks={
            ", ".join(
                tokenizer.decode([role]) for role in roles
            ): "open a turn; what the assistant writes is asked of the model",
            tokenizer.decode([tokenizer.end_id]): "ends a dialog",
        },
    )


def shown_of(tokenizer: DialogTokenizer, name: str, dialog: Dialog) -> Shown:
    """A dialog; it is asked what the assistant writes."""
    encoded = tokenizer.encode_dialog(dialog.messages)
    ids = encoded.ids.tolist()
    answers = {place - 1: ids[place] for place in range(1, len(ids)) if encoded.loss_mask[place]}
    return Shown(f"{SET_NAMES[name]}: {dialog.messages[0].content}", tuple(ids[:-1]), answers)


def beginning_of_turn(roles: list[int]) -> Pattern:
    """Each token looks at what opened its turn."""

    def mask(tokens: Tensor) -> Tensor:
        found = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
        opened = None
        for place, token in enumerate(tokens.tolist()):
            if opened is not None:
                found[place, opened] = True
            opened = place if token in roles else opened
        return found

    return Pattern(
        "beginning of turn",
        "Each token looks at the role that opened its turn, and so knows who speaks and how far the turn is.",
        mask,
        (roles[0], 0, 0, roles[1], 0, 0),
        ("<u>", "a", "b", "<a>", "c", "d"),
    )
