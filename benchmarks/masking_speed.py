"""Rows per second of masked language modelling: ours beside loops around Hugging Face's BERT of one size.

Three layers, d_model 512, a vocabulary of 30,522, batches of 32 rows of 128 tokens, a quarter of which are
masked: ``python -m benchmarks masking``.

    plain  `BertForMaskedLM`, float32, logits everywhere: the loop one writes first
    best   its encoder, then its head where tokens are masked, bfloat16 where the processor has it
    ours   what `apps.tying.train` runs: the same architecture, logits where tokens are masked

The last two are compiled where the processor has bfloat16. In float32 products of matrices are all that
counts: compiled, a step of either took as long as before, after half a minute of compiling.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.training_speed import steps_of
from benchmarks.turns import Contestant, Pair, Step
from nanollama.data.batch import IGNORE
from nanollama.data.masking import Masker, MaskingConfig
from nanollama.data.rows import RowStream
from nanollama.distributed import open_world
from nanollama.model import ModelConfig, build_model
from nanollama.model.mixers.mixer import gather
from nanollama.precision import choose_precision
from nanollama.training.learner import Learner
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig

BATCH_SIZE, N_HEADS, N_LAYERS, SEQ_LEN = 32, 4, 3, 128
SPECIAL, MASK = np.arange(5), 4
TO_PLAIN, TO_BEST = 5.0, 1.0
HAS_BFLOAT16 = choose_precision("auto", torch.device("cpu")) == "bfloat16"
BUDGET_SECONDS = 140.0


class Size(NamedTuple):
    """What is smaller in a quick run."""

    d_model: int
    vocab_size: int


FULL, QUICK = Size(512, 30_522), Size(64, 1_000)


def make_stream(size: Size) -> RowStream:
    """Random rows; how long a step takes does not depend on what they say."""
    rows = np.random.default_rng(0).integers(5, size.vocab_size, size=(1024, SEQ_LEN)).astype(np.uint16)
    return RowStream(rows, BATCH_SIZE, 0, Masker(MaskingConfig(), size.vocab_size, MASK, SPECIAL, 0))


def ours(size: Size, compile_model: bool) -> Step:
    """A step of our loop, making the batch included."""
    stream = make_stream(size)
    shape = ModelConfig(
        vocab_size=size.vocab_size,
        d_model=size.d_model,
        n_layers=N_LAYERS,
        n_heads=N_HEADS,
        causal=False,
        positions="learned",
        residual="post",
        norm="layer",
        mlp="gelu",
        bias=True,
        max_seq_len=SEQ_LEN,
        tied_embeddings=True,
    )
    with open_world("cpu") as world:
        learner = Learner(
            build_model(shape, torch.Generator().manual_seed(0)),
            next_token_loss,
            OptimizerConfig(decay="all", weight_decay=0.01, schedule="constant"),
            world,
            precision=choose_precision("auto", world.device),
            compile_model=compile_model,
        )

    return steps_of(learner, stream, BATCH_SIZE, learning_rate=1e-4)


def hugging_face(size: Size, best: bool, compile_model: bool) -> Step:
    """A step of a loop around `BertForMaskedLM`."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)  # the initial weights
    config = BertConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.d_model,
        intermediate_size=4 * size.d_model,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        max_position_embeddings=SEQ_LEN,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    bert: Any = BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(bert.parameters(), lr=1e-4, weight_decay=0.01, fused=best)
    stream = make_stream(size)

    def where_masked(input_ids: Tensor, queries: Tensor, targets: Tensor) -> Tensor:
        logits = bert.cls(gather(bert.bert(input_ids).last_hidden_state, queries))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)

    def everywhere(input_ids: Tensor, queries: Tensor, targets: Tensor) -> Tensor:
        labels = torch.full_like(input_ids, IGNORE).scatter_(1, queries, targets)
        loss: Tensor = bert(input_ids=input_ids, labels=labels).loss
        return loss

    loss_fn = where_masked if best else everywhere
    loss_fn = torch.compile(loss_fn) if compile_model else loss_fn

    def step(number: int) -> float:
        batch = stream.batch(number)
        assert batch.query_positions is not None
        with torch.autocast("cpu", torch.bfloat16, enabled=best and HAS_BFLOAT16):
            loss = loss_fn(batch.input_ids, batch.query_positions, batch.targets)
        loss.backward()
        nn.utils.clip_grad_norm_(bert.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return BATCH_SIZE

    return step


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner, the shorter comparison first; a quick run is of a small model and compiles nothing."""
    size = QUICK if quick else FULL
    compiles = HAS_BFLOAT16 and not quick
    setting, suffix = (
        f"masked tokens, d_model {size.d_model} x {N_LAYERS} layers",
        ", compiled" if compiles else "",
    )
    we = Contestant(f"ours{suffix}", partial(ours, size, compiles))
    plain = Contestant("BERT, float32", partial(hugging_face, size, False, False))
    best = Contestant(f"BERT, logits where masked{suffix}", partial(hugging_face, size, True, compiles))
    return [
        Pair(setting, "rows/s", we, best, TO_BEST),
        Pair(setting, "rows/s", we, plain, TO_PLAIN),
    ]
