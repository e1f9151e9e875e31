"""Dialogs per second of training: ours beside a loop around Hugging Face's Llama of the same size.

Both learn random batches of 128 of the same dialogs of the memory study: ``python -m benchmarks training``.

    plain   Llama, every dialog padded to 256 tokens, float32: the loop one writes first
    dynamic Llama, padded to the longest dialog of the batch, compiled; in float32 and in bfloat16
    ours    what `apps.memory.train` runs, compiled: logits where the loss looks, two micro-batches ordered by
            length, bfloat16 where the processor has it
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from apps.memory.dataset.dialogs import DialogKind, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from apps.memory.settings import N_TOKENS
from benchmarks.turns import Contestant, Pair, Step
from nanollama.data.stream import DocumentStream, Stream
from nanollama.dialogs.source import DialogSource
from nanollama.distributed import open_world
from nanollama.model import ModelConfig, build_model
from nanollama.precision import choose_precision
from nanollama.tokenizer import ByteTokenizer
from nanollama.training.learner import Learner
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig

BATCH_SIZE = 128
N_PEOPLE = 2000
PADDED_LEN = 256
UNIT = "dialogs/s"
NO_BFLOAT16 = (
    "" if choose_precision("auto", torch.device("cpu")) == "bfloat16" else "This processor has no bfloat16."
)
BUDGET_SECONDS = 240.0


class Size(NamedTuple):
    """Shape of the models, and how many steps compiled ones need to meet their shapes."""

    d_model: int
    n_layers: int
    n_heads: int
    n_warm: int


SMALL, LARGE = Size(36, 2, 2, n_warm=16), Size(128, 6, 8, n_warm=6)
AIMS: dict[tuple[Size, DialogKind], tuple[float, float]] = {
    (SMALL, "qa"): (5.0, 2.0),
    (SMALL, "qatool"): (1.6, 1.5),
    (LARGE, "qa"): (6.0, 2.0),
    (LARGE, "qatool"): (2.0, 1.5),
}
"""Times the plain loop, and times each dynamic one."""


def read(kind: DialogKind) -> DialogSource:
    """The dialogs of the first people."""
    asked = itertools.product(people(0, N_PEOPLE), ATTRIBUTES)
    dialogs = (make_dialog(person, attribute, kind).messages for person, attribute in asked)
    return DialogSource(dialogs, ByteTokenizer(("user", "assistant", "database")))


def ours(size: Size, kind: DialogKind, compile_model: bool, implementation: str = "transformer") -> Step:
    """A step of our loop, making the batch included."""
    source = read(kind)
    config = ModelConfig(
        implementation=implementation,
        vocab_size=N_TOKENS,
        d_model=size.d_model,
        n_layers=size.n_layers,
        n_heads=size.n_heads,
    )
    stream = DocumentStream([source], BATCH_SIZE, seed=0)
    model = build_model(config, torch.Generator().manual_seed(0))
    with open_world("cpu") as world:
        learner = Learner(
            model,
            next_token_loss,
            OptimizerConfig(),
            world,
            precision=choose_precision("auto", world.device),
            n_accumulation=2,
            compile_model=compile_model,
        )

    return steps_of(learner, stream, BATCH_SIZE)


def steps_of(learner: Learner, stream: Stream, batch_size: int, learning_rate: float = 1e-3) -> Step:
    """Steps of our loop, making the batch included; the work is rows of a batch."""

    def step(number: int) -> float:
        learner.backward(stream.batch(number))
        learner.clip()
        learner.update(learning_rate)
        return batch_size

    return step


def hugging_face(
    size: Size, kind: DialogKind, padded_len: int | None, bfloat16: bool, compile_model: bool
) -> Step:
    """A step of the loop one writes around `LlamaForCausalLM`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    source = read(kind)
    torch.manual_seed(0)  # the initial weights
    config = LlamaConfig(
        vocab_size=N_TOKENS,
        hidden_size=size.d_model,
        intermediate_size=4 * size.d_model,
        num_hidden_layers=size.n_layers,
        num_attention_heads=size.n_heads,
        max_position_embeddings=512,
    )
    llama: nn.Module = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(llama.parameters(), lr=1e-3, fused=True)
    run = torch.compile(llama) if compile_model else llama
    stream = DocumentStream([source], BATCH_SIZE, seed=0)

    def step(number: int) -> float:
        batch = pad([source.document(index) for _, index in stream.rows(number)], padded_len)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = run(input_ids=batch[0], attention_mask=batch[1], labels=batch[2]).loss
        loss.backward()
        nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return BATCH_SIZE

    return step


def pad(
    documents: Sequence[tuple[np.ndarray, np.ndarray]], padded_len: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and labels (-100 where there is no loss), each (B, T)."""
    seq_len = padded_len or max(len(ids) for ids, _ in documents)
    input_ids = torch.zeros(len(documents), seq_len, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, -100)
    for row, (ids, mask) in enumerate(documents):
        tokens = torch.as_tensor(ids)
        input_ids[row, : len(ids)] = tokens
        attention_mask[row, : len(ids)] = 1
        labels[row, : len(ids)] = torch.where(torch.as_tensor(mask), tokens, -100)
    return input_ids, attention_mask, labels


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner; a quick run compiles nothing."""
    if quick:
        return compare(SMALL, "qa", compiled=False)
    return [pair for size, kind in AIMS for pair in compare(size, kind, compiled=True)]


def compare(size: Size, kind: DialogKind, compiled: bool) -> list[Pair]:
    """Ours beside the plain loop and both dynamic ones."""
    setting = f"train on {kind}, d_model {size.d_model} x {size.n_layers} layers"
    to_plain, to_dynamic = AIMS[size, kind]
    n_warm, suffix = (size.n_warm, ", compiled") if compiled else (1, "")
    we = Contestant(f"ours{suffix}", partial(ours, size, kind, compiled), n_warm)
    plain = partial(hugging_face, size, kind, PADDED_LEN, bfloat16=False, compile_model=False)
    found = [Pair(setting, UNIT, we, Contestant(f"Llama, padded to {PADDED_LEN}, float32", plain), to_plain)]
    for bfloat16, name in ((False, "float32"), (True, "bfloat16")):
        make = partial(hugging_face, size, kind, None, bfloat16=bfloat16, compile_model=compiled)
        llama = Contestant(f"Llama, dynamic padding, {name}{suffix}", make, n_warm)
        found.append(Pair(setting, UNIT, we, llama, to_dynamic, NO_BFLOAT16 if bfloat16 else ""))
    return found
