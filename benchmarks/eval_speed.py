"""Prompts per second of a recall evaluation with the live database: ours, and decoding one dialog at a time.

``python -m benchmarks.eval_speed [--quick]``. 1,024 questions of the memory study's in-tool arm, greedy,
float32, at most 257 tokens a dialog; models of d_model 36 x 2 layers and 128 x 6, in these states:

    endless  untrained, and unable to end or to ask: every dialog is decoded to its 257 tokens
    fresh    untrained
    half     in the middle of learning eight people
    trained  has learned eight people and is asked about them; each question comes 32 times
    departs  trained, asked 32 of the 1,024 questions about people it does not know

In every state some of the questions are also decoded plainly (no cache, no batch, a whole forward pass a
token); a dialog that differs in one token stops the benchmark. The earlier system did 63 and 3.6 prompts/s on
a quiet machine with two such cores. Goals: 20 times that when trained, 6 times when untrained.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from apps.memory.dataset.dialogs import Dialog, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from apps.memory.dataset.sql_db import create_database
from apps.memory.recall import is_answered
from apps.memory.settings import DatabaseSettings
from benchmarks.row import Row
from nanollama.data.batch import collate
from nanollama.dialogs.expected import attempt_dialogs
from nanollama.dialogs.generate import Completion, generate_one
from nanollama.dialogs.tools import Tool, build_tool
from nanollama.model import ModelConfig, build_model
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import ByteTokenizer
from nanollama.training.loss import next_token_loss

N_PROMPTS = 1024
N_TOKENS = 257
N_LEARNED = 8
N_DEPARTING = 32
HALF_LOSS_NATS = 0.3  # a token: requests are written, names are not copied
MAX_STEPS = 1500
TOKENIZER = ByteTokenizer()


class Size(NamedTuple):
    """A model, how it learns, how often it is timed, and what the earlier system did."""

    d_model: int
    n_layers: int
    n_heads: int
    learning_rate: float
    n_repeats: int
    n_plain: int
    earlier_prompts_per_second: float


SIZES = (Size(36, 2, 2, 6e-3, 5, 32, 63.0), Size(128, 6, 8, 2e-3, 2, 8, 3.6))


def questions_of(start: int, stop: int) -> list[Dialog]:
    """All questions about these people, as they should be answered."""
    return [
        make_dialog(person, attribute, "qatool") for person in people(start, stop) for attribute in ATTRIBUTES
    ]


def new_model(size: Size) -> LanguageModel:
    """An untrained model."""
    shape = {"d_model": size.d_model, "n_layers": size.n_layers, "n_heads": size.n_heads}
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


def compare(name: str, size: Size, model: LanguageModel, dialogs: Sequence[Dialog], tool: Tool) -> list[Row]:
    """Time an evaluation, and plain decoding of questions from its beginning to its end."""
    completions, seconds = decode(model, dialogs, tool), []
    for _ in range(size.n_repeats):
        began = time.perf_counter()
        decode(model, dialogs, tool)
        seconds.append(time.perf_counter() - began)
    checked = range(0, len(dialogs), max(1, len(dialogs) // size.n_plain))
    few = [dialogs[number] for number in checked]
    began = time.perf_counter()
    plain = decode_plainly(model, few, tool, new_tokens(dialogs))
    plain_speed = len(few) / (time.perf_counter() - began)
    if plain != [completions[number] for number in checked]:
        raise RuntimeError(f"{name}: decoding side by side and one at a time differ.")
    share = sum(verdicts(dialogs, completions)) / len(dialogs)
    n_tokens = sum(len(completion.ids) for completion in completions) / len(dialogs)
    work = f"d_model {size.d_model} x {size.n_layers}, {name} (recall {share:.2f}, {n_tokens:.0f} tokens)"
    ours = len(dialogs) / min(seconds)
    return [
        Row(work, ours, "prompts/s", size.earlier_prompts_per_second, "the earlier system, on its machine"),
        Row(
            work,
            ours,
            "prompts/s",
            plain_speed,
            f"one at a time, {len(few)} dialogs, equal",
        ),
    ]


def rows_of(size: Size, n_prompts: int, tool: Tool) -> list[Row]:
    """All states of one model."""
    learned = questions_of(0, N_LEARNED)
    half, trained = learn(size, learned, tool)
    strangers = questions_of(N_LEARNED, N_LEARNED + n_prompts // len(ATTRIBUTES))
    known = learned * (n_prompts // len(learned))
    states: Mapping[str, tuple[LanguageModel, list[Dialog]]] = {
        "endless": (endless_model(size), strangers),
        "fresh": (new_model(size), strangers),
        "half": (half, known),
        "trained": (trained, known),
        "departs": (trained, [*known[:-N_DEPARTING], *strangers[:N_DEPARTING]]),
    }
    return [
        row for name, (model, dialogs) in states.items() for row in compare(name, size, model, dialogs, tool)
    ]


def rows(quick: bool = False) -> list[Row]:
    """For `make bench`."""
    sizes = (SIZES[0]._replace(n_repeats=1, n_plain=2),) if quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        create_database(Path(folder), N_LEARNED + N_PROMPTS // len(ATTRIBUTES))
        tool = build_tool(DatabaseSettings().tool_config(Path(folder), "find"))
        try:
            return [row for size in sizes for row in rows_of(size, 32 if quick else N_PROMPTS, tool)]
        finally:
            tool.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little work, to see that everything runs")
    for row in rows(parser.parse_args().quick):
        print(f"{row.work}: {row.ours:,.1f} {row.unit}, {row.ratio:.1f} times {row.compared_with}")


if __name__ == "__main__":
    main()
