"""Dialogs per second of training: ours beside a loop around Hugging Face's Llama of the same size.

All contestants learn the same batches of 128 dialogs of the memory study, each in a process of its own,
taking turns of a few steps: ``python -m benchmarks.training_speed [--turns N] [--compile]``.

    plain   Llama, every dialog padded to 256 tokens, float32: the loop one writes first
    dynamic Llama, padded to the longest dialog of the batch; float32 or bfloat16, compiled with ``--compile``
    ours    what `apps.memory.train` runs: logits where the loss looks, two micro-batches ordered by length

Goals at d_model 128 x 6 layers: at least 6 (qa) and 2 (qatool) times `plain`, 2 and 1.5 times the best
`dynamic`; at d_model 36 x 2 layers 5 and 1.6 times `plain`, 2 and 1.5 times the best `dynamic`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from apps.memory.dataset.dialogs import DialogKind, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from benchmarks.row import Row
from benchmarks.turns import Step, seconds_a_step
from nanollama.data.stream import DocumentStream
from nanollama.dialogs.source import DialogSource
from nanollama.distributed import open_world
from nanollama.model import ModelConfig, build_model
from nanollama.precision import Precision
from nanollama.tokenizer import ByteTokenizer
from nanollama.training.learner import Learner
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig

BATCH_SIZE = 128
N_PEOPLE = 2000
PADDED_LEN = 256
N_TURNS = 5


class Size(NamedTuple):
    """Shape of the models, and the steps of a turn and before the first."""

    d_model: int
    n_layers: int
    n_heads: int
    n_steps: int
    n_warm: int


SIZES = (Size(36, 2, 2, n_steps=8, n_warm=16), Size(128, 6, 8, n_steps=2, n_warm=6))
KINDS: tuple[DialogKind, ...] = ("qa", "qatool")


def read(kind: DialogKind) -> DialogSource:
    """The dialogs of the first people."""
    asked = itertools.product(people(0, N_PEOPLE), ATTRIBUTES)
    dialogs = (make_dialog(person, attribute, kind).messages for person, attribute in asked)
    return DialogSource(dialogs, ByteTokenizer())


def ours(
    size: Size,
    kind: DialogKind,
    precision: Precision,
    compile_model: bool = False,
    implementation: str = "transformer",
) -> Step:
    """A step of our loop, making the batch included."""
    source = read(kind)
    config = ModelConfig(
        implementation=implementation,
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
            precision=precision,
            n_accumulation=2,
            compile_model=compile_model,
        )

    def step(number: int) -> None:
        learner.backward(stream.batch(number))
        learner.clip()
        learner.update(1e-3)

    return step


def hugging_face(
    size: Size, kind: DialogKind, padded_len: int | None, bfloat16: bool, compile_model: bool = False
) -> Step:
    """A step of the loop one writes around `LlamaForCausalLM`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    source = read(kind)
    torch.manual_seed(0)  # the initial weights
    config = LlamaConfig(
        vocab_size=260,
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

    def step(number: int) -> None:
        batch = pad([source.document(index) for _, index in stream.rows(number)], padded_len)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = run(input_ids=batch[0], attention_mask=batch[1], labels=batch[2]).loss
        loss.backward()
        nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def pad(documents: Sequence[tuple[Tensor, Tensor]], padded_len: int | None) -> tuple[Tensor, Tensor, Tensor]:
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


def contestants(size: Size, kind: DialogKind, with_compile: bool) -> dict[str, Callable[[], Step]]:
    """What makes the loops of a comparison, by name."""
    makers = {
        "plain": partial(hugging_face, size, kind, PADDED_LEN, bfloat16=False),
        "dynamic float32": partial(hugging_face, size, kind, None, bfloat16=False),
        "dynamic bfloat16": partial(hugging_face, size, kind, None, bfloat16=True),
        "ours float32": partial(ours, size, kind, "float32"),
        "ours bfloat16": partial(ours, size, kind, "bfloat16"),
    }
    if with_compile:
        makers |= {
            "dynamic float32 compiled": partial(hugging_face, size, kind, None, False, compile_model=True),
            "dynamic bfloat16 compiled": partial(hugging_face, size, kind, None, True, compile_model=True),
            "ours bfloat16 compiled": partial(ours, size, kind, "bfloat16", compile_model=True),
        }
    return makers


def measure(size: Size, kind: DialogKind, n_turns: int, with_compile: bool) -> dict[str, float]:
    """Dialogs per second of each contestant."""
    seconds = seconds_a_step(contestants(size, kind, with_compile), n_turns, size.n_steps, size.n_warm)
    return {name: BATCH_SIZE / value for name, value in seconds.items()}


def rows(quick: bool = False) -> list[Row]:
    """For `make bench`: our fastest loop beside the plain and the best one around Hugging Face's Llama."""
    if quick:
        return compare(SIZES[0]._replace(n_steps=1, n_warm=1), "qa", n_turns=1, with_compile=False)
    chosen = itertools.product(SIZES, KINDS)
    return [row for size, kind in chosen for row in compare(size, kind, N_TURNS, with_compile=True)]


def compare(size: Size, kind: DialogKind, n_turns: int, with_compile: bool) -> list[Row]:
    """All contestants on one kind of dialogs, said on stderr; the two comparisons that count."""
    speeds = measure(size, kind, n_turns, with_compile)
    work = f"train on {kind}, d_model {size.d_model} x {size.n_layers} layers"
    print(work, file=sys.stderr)
    for name, speed in speeds.items():
        print(f"  {name:<26}{speed:>8.0f} dialogs/s", file=sys.stderr, flush=True)
    ours_best = max((name for name in speeds if name.startswith("ours")), key=speeds.__getitem__)
    theirs_best = max((name for name in speeds if not name.startswith("ours")), key=speeds.__getitem__)
    return [
        Row(f"{work}: {ours_best}", speeds[ours_best], "dialogs/s", speeds[theirs], f"Llama, {theirs}")
        for theirs in ("plain", theirs_best)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Training speed beside Hugging Face's Llama.")
    parser.add_argument("--turns", type=int, default=N_TURNS, help=f"turns to time (default {N_TURNS})")
    parser.add_argument("--compile", action="store_true", help="compiled loops too: minutes of compiling")
    arguments = parser.parse_args()
    for size, kind in itertools.product(SIZES, KINDS):
        for row in compare(size, kind, arguments.turns, arguments.compile):
            print(f"{row.work}: {row.ratio:.2f} times {row.compared_with}", flush=True)


if __name__ == "__main__":
    main()
