"""Prompts per second of a recall evaluation with the live database: ours, and decoding one dialog at a time.

``python -m benchmarks eval``. Questions of the memory study's in-tool arm, greedy, float32, at most 257
tokens a dialog; models of d_model 36 x 2 layers and 128 x 6, in these states:

    endless  untrained, and unable to end or to ask: every dialog is decoded to its 257 tokens
    fresh    untrained
    half     in the middle of learning a few people
    trained  has learned a few people and is asked about them; each question comes 32 times
    departs  trained, asked one in 32 of the questions about people it does not know

The other decodes some of the questions plainly: no cache, no batch, a whole forward pass a token. A dialog
that differs from ours in one token makes it fail.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from apps.memory.dataset.dialogs import Dialog, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from apps.memory.dataset.sql_db import create_database
from apps.memory.recall import is_answered
from apps.memory.settings import DatabaseSettings
from benchmarks.turns import Contestant, Pair, Step
from nanollama.data.batch import collate
from nanollama.dialogs.expected import attempt_dialogs
from nanollama.dialogs.generate import Completion, generate_one
from nanollama.dialogs.tools import Tool, build_tool
from nanollama.model import ModelConfig, build_model
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import ByteTokenizer
from nanollama.training.loss import next_token_loss

N_TOKENS = 257
DEPARTING = 32  # one question in so many
HALF_LOSS_NATS = 0.3  # a token: requests are written, names are not copied
MAX_STEPS = 1500
BUDGET_SECONDS = 180.0
COMPLETIONS = "completions.pickle"
TOKENIZER = ByteTokenizer(("user", "assistant", "database"))


class Size(NamedTuple):
    """A model, how and how many people it learns, the questions it is asked, also plainly, aims by state."""

    d_model: int
    n_layers: int
    n_heads: int
    learning_rate: float
    n_learned: int
    n_prompts: int
    n_plain: int
    aims: dict[str, float]


SMALL = Size(
    36,
    2,
    2,
    6e-3,
    8,
    1024,
    16,
    {"endless": 34.0, "fresh": 13.0, "half": 25.0, "trained": 70.0, "departs": 70.0},
)
LARGE = Size(
    128,
    6,
    8,
    2e-3,
    2,
    256,
    4,
    {"endless": 18.0, "fresh": 2.0, "half": 12.0, "trained": 30.0, "departs": 30.0},
)


def questions_of(start: int, stop: int) -> list[Dialog]:
    """All questions about these people, as they should be answered."""
    return [
        make_dialog(person, attribute, "qatool") for person in people(start, stop) for attribute in ATTRIBUTES
    ]


def new_model(size: Size) -> LanguageModel:
    """An untrained model."""
    shape = {
        "vocab_size": TOKENIZER.vocab_size,
        "d_model": size.d_model,
        "n_layers": size.n_layers,
        "n_heads": size.n_heads,
    }
    return build_model(ModelConfig.model_validate(shape), torch.Generator().manual_seed(0))


def endless_model(size: Size) -> LanguageModel:
    """An untrained model whose special tokens are never the most likely ones."""
    model = new_model(size)
    with torch.no_grad():
        model.get_parameter("head.weight")[256:] = 0.0  # logit 0; of 256 random ones, the largest is above
    return model


def learn(size: Size, dialogs: Sequence[Dialog], tool: Tool) -> tuple[LanguageModel, LanguageModel]:
    """The model half way, and when it answers all questions right."""
    model, half = new_model(size), new_model(size)
    encoded = [TOKENIZER.encode_dialog(dialog.messages) for dialog in dialogs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.learning_rate, betas=(0.9, 0.95))
    generator, is_half = torch.Generator().manual_seed(1), False
    for step in range(1, MAX_STEPS + 1):
        chosen = torch.randperm(len(encoded), generator=generator)[:16].tolist()
        batch = collate([encoded[i].ids for i in chosen], [encoded[i].loss_mask for i in chosen])
        optimizer.zero_grad()
        loss = next_token_loss(model, batch) / batch.n_loss_tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if not is_half and loss.item() < HALF_LOSS_NATS:
            half.load_state_dict(model.state_dict())
            is_half = True
        if step % 20 == 0 and loss.item() < 0.05 and all(verdicts(dialogs, decode(model, dialogs, tool))):
            return half, model
    raise RuntimeError(f"{size} has not learned {len(dialogs)} dialogs in {MAX_STEPS} steps.")


def decode(model: LanguageModel, dialogs: Sequence[Dialog], tool: Tool) -> list[Completion]:
    """What an evaluation does."""
    messages = [dialog.messages for dialog in dialogs]
    attempts = attempt_dialogs(model, TOKENIZER, messages, tool, max_new_tokens=new_tokens(dialogs))
    return [attempt.completion for attempt in attempts]


def decode_plainly(
    model: LanguageModel, dialogs: Sequence[Dialog], tool: Tool, n_new: int
) -> list[Completion]:
    """The same, one dialog at a time."""
    prompts = [TOKENIZER.encode_prompt(dialog.messages[:1]) for dialog in dialogs]
    return [generate_one(model, TOKENIZER, prompt, tool, max_new_tokens=n_new) for prompt in prompts]


def new_tokens(dialogs: Sequence[Dialog]) -> int:
    """How many tokens lead from a prompt of average length to `N_TOKENS`."""
    n_given = sum(len(TOKENIZER.encode_prompt(dialog.messages[:1])) for dialog in dialogs)
    return N_TOKENS - n_given // len(dialogs)


def verdicts(dialogs: Sequence[Dialog], completions: Sequence[Completion]) -> list[bool]:
    """Is it right? One verdict a question."""
    return [
        completion.ending == "end" and is_answered(dialog, TOKENIZER.decode_dialog(completion.ids))
        for dialog, completion in zip(dialogs, completions, strict=True)
    ]


def load(size: Size, state: str, folder: Path) -> tuple[LanguageModel, list[Dialog], Tool]:
    """A model in a state, what it is asked, and the database."""
    model = endless_model(size) if state == "endless" else new_model(size)
    learned = questions_of(0, size.n_learned)
    questions = questions_of(size.n_learned, size.n_learned + size.n_prompts // len(ATTRIBUTES))
    if state in ("half", "trained", "departs"):
        weights = "half" if state == "half" else "trained"
        model.load_state_dict(torch.load(folder / f"{size.d_model}-{weights}.pt"))
        known = learned * (size.n_prompts // len(learned))
        n_departing = size.n_prompts // DEPARTING if state == "departs" else 0
        questions = [*known[n_departing:], *questions[:n_departing]]
    tool = build_tool(DatabaseSettings().tool_config(folder, "find"))
    return model, questions, tool


def ours(size: Size, state: str, folder: Path) -> Step:
    """All questions, as an evaluation asks them; what is written goes into the folder."""
    model, dialogs, tool = load(size, state, folder)
    (folder / COMPLETIONS).write_bytes(pickle.dumps(decode(model, dialogs, tool)))

    def step(number: int) -> float:
        return len(decode(model, dialogs, tool))

    return step


def plain(size: Size, state: str, folder: Path) -> Step:
    """Some of the questions, from the first to the last, one at a time."""
    model, dialogs, tool = load(size, state, folder)
    checked = range(0, len(dialogs), max(1, len(dialogs) // size.n_plain))
    expected = pickle.loads((folder / COMPLETIONS).read_bytes())

    def step(number: int) -> float:
        few = [dialogs[index] for index in checked]
        written = decode_plainly(model, few, tool, new_tokens(dialogs))
        if written != [expected[index] for index in checked]:
            raise RuntimeError("Decoding side by side and one at a time differ.")
        return len(few)

    return step


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner; a quick run asks a small model that has learned one person."""
    sizes = (SMALL._replace(n_learned=1, n_prompts=32, n_plain=2),) if quick else (SMALL, LARGE)
    create_database(folder, SMALL.n_learned + SMALL.n_prompts // len(ATTRIBUTES))
    tool = build_tool(DatabaseSettings().tool_config(folder, "find"))
    try:
        for size in sizes:
            for name, model in zip(
                ("half", "trained"), learn(size, questions_of(0, size.n_learned), tool), strict=True
            ):
                torch.save(model.state_dict(), folder / f"{size.d_model}-{name}.pt")
    finally:
        tool.close()
    return [
        Pair(
            f"d_model {size.d_model} x {size.n_layers} layers, {state}",
            "prompts/s",
            Contestant("ours", partial(ours, size, state, folder), n_warm=0),
            Contestant("one at a time, equal", partial(plain, size, state, folder), n_warm=0),
            aim,
        )
        for size in sizes
        for state, aim in size.aims.items()
        if not quick or state == "departs"
    ]
