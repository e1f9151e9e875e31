"""Small dialogs, a tool for them, models that have learned them more or less, and models with a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nanollama.data.batch import collate
from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.model import ModelConfig, build_model
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import ByteTokenizer, Message
from nanollama.training.loss import next_token_loss

TOKENIZER = ByteTokenizer(("user", "assistant", "database"))
FACTS = {
    "a": "red",
    "b": "green",
    "c": "blue",
    "d": "pink",
    "e": "gold",
    "f": "grey",
    "g": "tan",
    "h": "jade",
}
UNKNOWN = Reply("unknown", ok=False)


class FactTool(Tool):
    """Knows the colours of letters; ``?a`` asks for one. Remembers what it was asked, batch by batch."""

    role = "database"

    def __init__(self, facts: Mapping[str, str] = FACTS) -> None:
        self.facts = facts
        self.batches: list[list[str]] = []

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        self.batches.append(list(requests))
        known = (self.facts.get(request.removeprefix("?")) for request in requests)
        return [UNKNOWN if value is None else Reply(value, ok=True) for value in known]

    def close(self) -> None:
        pass


def toy_dialog(letter: str, colour: str) -> list[Message]:
    """``<user>a<assistant>?a<database>red<assistant>a: red.<end>``"""
    return [
        Message("user", letter),
        Message("assistant", f"?{letter}"),
        Message("database", colour),
        Message("assistant", f"{letter}: {colour}."),
    ]


def toy_dialogs() -> list[list[Message]]:
    """One dialog a fact."""
    return [toy_dialog(letter, colour) for letter, colour in FACTS.items()]


def toy_prompts(letters: str = "abcdefgh") -> list[list[int]]:
    """Questions about letters, up to the word of the assistant."""
    return [TOKENIZER.encode_prompt([Message("user", letter)]) for letter in letters]


def toy_config(**changes: object) -> ModelConfig:
    """A very small transformer."""
    shape = {
        "vocab_size": TOKENIZER.vocab_size,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 2,
        "max_seq_len": 64,
    }
    return ModelConfig.model_validate({**shape, **changes})


def toy_model(n_steps: int = 0, **changes: object) -> LanguageModel:
    """A model after so many steps on `toy_dialogs`: 0 knows nothing, 20 knows some, 100 knows them all."""
    model = build_model(toy_config(**changes), torch.Generator().manual_seed(0))
    encoded = [TOKENIZER.encode_dialog(messages) for messages in toy_dialogs()]
    batch = collate([dialog.ids for dialog in encoded], [dialog.loss_mask for dialog in encoded])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (next_token_loss(model, batch) / batch.n_loss_tokens).backward()
        optimizer.step()
    return model.eval()


def scripted_model(
    follows: Mapping[str, str], ties: Mapping[str, str] | None = None, max_seq_len: int = 64
) -> LanguageModel:
    """A real transformer whose next token is a function of the last one.

    Args:
        follows: token to token, each a character or a special token such as ``<end>``.
        ties: a second token that is exactly as likely.
        max_seq_len: how much it can read.
    """
    config = toy_config(d_model=260, n_layers=1, d_ff=1, max_seq_len=max_seq_len)
    model = build_model(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.get_parameter("blocks.0.attention.output.weight").zero_()
        model.get_parameter("blocks.0.mlp.down.weight").zero_()
        model.get_parameter("embedding.weight").copy_(torch.eye(260))
        model.get_parameter("head.weight").zero_()
        for table in (follows, ties or {}):
            for token, following in table.items():
                model.get_parameter("head.weight")[token_id(following), token_id(token)] = 1.0
    return model


def token_id(token: str) -> int:
    """The id of a character or of a special token such as ``<end>``."""
    return TOKENIZER.special_ids[token[1:-1]] if len(token) > 1 else ord(token)
