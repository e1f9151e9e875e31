# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # My own text, my own task, my own mixer
#
# A minute on two cores, and not a line of YAML. Three things that a study brings: what is read, what is
# asked, and what the model is made of. Each is a small class; the loop, the run folder and the checkpoints
# are the library's.

# %%
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nanollama.api import (
    Batch,
    LanguageModel,
    ModelConfig,
    OptimizerConfig,
    Parts,
    Stream,
    TrainingConfig,
    TrainingRunConfig,
    collate,
    load_run,
    train_run,
)
from nanollama.model.mixers import MIXERS, register_mixer
from nanollama.model.mixers.mixer import Context, Mixer, gather
from nanollama.model.state import LayerState


def learn(name: str, stream: Stream, model: ModelConfig, n_steps: int) -> LanguageModel:
    """Train a model, or take the one that has been trained, and give it back."""
    config = TrainingRunConfig(
        study="lesson",
        name=name,
        model=model,
        training=TrainingConfig(
            n_steps=n_steps, log_every=50, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=20)
        ),
    )
    train_run(config, lambda config: nullcontext(Parts(stream, data_hashes={})))
    return load_run(TrainingRunConfig, config.folder).model


# %% [markdown]
# ## My own text
#
# A text is bytes, and an example is a window of them. The rhyme is short, so the model will know it by heart.
# Take a text of your own for `TEXT`, and another name than "rhyme" for its run: a run folder belongs to what
# it was started with, and refuses another first batch. A long text takes more than 150 steps.

# %%
TEXT = (
    "Hickory dickory dock. The mouse ran up the clock. The clock struck one, the mouse ran down. "
    "Hickory dickory dock. "
) * 4


class Windows:
    """Windows of 33 bytes of a text, at places that are drawn for each step."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.api.Stream`."""
        data = np.frombuffer(TEXT.encode(), dtype=np.uint8).astype(np.int64)
        starts = np.random.default_rng([1, step]).integers(len(data) - 33, size=32)[rank::world_size]
        return collate(
            [data[start : start + 33] for start in starts], [np.ones(33, dtype=bool)] * len(starts)
        )


shape = {"d_model": 48, "n_layers": 2, "n_heads": 2}
reader = learn("rhyme", Windows(), ModelConfig(implementation="transformer", vocab_size=256, **shape), 150)
written = list(TEXT.encode()[:12])
with torch.no_grad():
    for _ in range(24):
        written.append(int(reader(torch.tensor([written[-32:]]))[0, -1].argmax()))
print(bytes(written).decode(errors="replace"))
assert bytes(written) in TEXT.encode(), "it goes on as the rhyme does; a longer text takes more steps"

# %% [markdown]
# ## My own task
#
# A sequence of bits, each followed by the parity of all so far: token 2 + parity. Only the parities carry
# loss, so a loss of 0 is to have understood. The truth is known exactly, and so the measure is exact.


# %%
class Parities:
    """Twenty bits, each followed by the parity so far."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.api.Stream`."""
        bits = np.random.default_rng([2, step]).integers(2, size=(32, 20))[rank::world_size]
        rows = np.stack([bits, 2 + bits.cumsum(axis=1) % 2], axis=2).reshape(len(bits), 40)
        return collate(list(rows), [np.arange(40) % 2 == 1] * len(rows))


@torch.no_grad()
def right(model: LanguageModel) -> float:
    """The share of parities that are told, of rows that nobody learns from."""
    asked = Parities().batch(step=10**6)
    guesses = model(asked.input_ids, query_positions=asked.query_positions).argmax(dim=-1)
    return float((guesses == asked.targets).float().mean())


counter = learn("parity", Parities(), ModelConfig(implementation="transformer", vocab_size=4, **shape), 150)
print(f"a transformer tells {right(counter):.3f} of the parities")
assert right(counter) > 0.95, "the last parity and the next bit are enough"

# %% [markdown]
# ## My own mixer
#
# What mixes tokens is one class: a forward pass, a decoding state, a count of operations. This one is a
# moving average. It cannot pick a token as attention does; but where it fades fast, it is nearly the last
# tokens alone, and this task needs no more than two of them.
#
# Two lines of the pass are for rows that this lesson does not learn from: `opens` says where documents of a
# packed row begin, and there an average starts anew; `n_new` says how many tokens of each row count while a
# model writes, and padding behind them moves no average. A mixer that attends is registered with
# `attends=True` instead, and is told by `context.mask` which tokens it may see, and by `context.rotary` where
# they stand.


# %%
@dataclass
class Averages(LayerState):
    """What the mixer keeps of tokens read so far: their average, (B, D)."""

    mean: Tensor


class MovingAverage(Mixer):
    """Each coordinate becomes its moving average over the row so far, between two maps."""

    name: ClassVar[str] = "average"

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.input = nn.Linear(config.d_model, config.d_model, bias=False)
        self.output = nn.Linear(config.d_model, config.d_model, bias=False)
        self.decay = nn.Parameter(torch.empty(config.d_model))

    def init_weights(self, generator: torch.Generator) -> None:
        """See `Mixer`."""
        self.decay.fill_(math.log(4))

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """See `Mixer`."""
        state = None if context.state is None else context.state.layers[self.layer]
        mean = torch.zeros_like(x[:, 0]) if state is None else state.mean
        share, means = self.decay.sigmoid(), []
        opens, n_new = context.opens, context.n_new
        for t, value in enumerate(self.input(x).unbind(1)):
            before = mean if opens is None else mean.masked_fill(opens[:, t, None], 0.0)
            moved = share * before + (1 - share) * value
            mean = moved if n_new is None else torch.where((t < n_new)[:, None], moved, mean)
            means.append(mean)
        if state is not None:
            state.mean.copy_(mean)
        mixed = torch.stack(means, dim=1)
        return self.output(mixed if query_positions is None else gather(mixed, query_positions))

    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> Averages:
        """See `Mixer`."""
        return Averages(torch.zeros(n_rows, self.output.in_features, device=device))

    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        """See `Mixer`."""
        return 2 * (seq_len * self.input.weight.numel() + n_queries * self.output.weight.numel())


if "average" not in MIXERS:
    register_mixer("average", f"{__name__}:MovingAverage")
averaging = ModelConfig(implementation="average", vocab_size=4, d_model=48, n_layers=2)
averager = learn("parity_average", Parities(), averaging, 150)
print(f"moving averages tell {right(averager):.3f} of the parities")
assert right(averager) > 0.95, "it fades fast enough"

# %% [markdown]
# ## Exercise 1
#
# Is a mixer of one's own causal? Change the last token of a row: no logits before it may move. Do documents
# of a packed row stay apart, and does padding behind a prompt leave no trace? Ask the model for each alone.
#
# *Solution.* A sum over what came before cannot see what comes after; the two lines above do the rest. The
# tests of the library ask all this of its own mixers. Of yours nobody asks it but you.

# %%
rows = torch.randint(4, (2, 24), generator=torch.Generator().manual_seed(3))
changed = rows.clone()
changed[:, -1] = (changed[:, -1] + 1) % 4
with torch.no_grad():
    before, after = averager(rows), averager(changed)
assert torch.equal(before[:, :-1], after[:, :-1])
assert not torch.equal(before[:, -1], after[:, -1])

# %%
packed_row, n_read = rows[:1], torch.tensor([9, 20])
with torch.no_grad():
    packed = averager(packed_row, documents=torch.tensor([[0] * 10 + [1] * 14]))
    for document in (slice(0, 10), slice(10, 24)):
        torch.testing.assert_close(
            packed[:, document], averager(packed_row[:, document]), rtol=1e-4, atol=1e-5
        )
    state = averager.make_state(2, capacity=21)
    averager(rows[:, :20], state=state.part(slice(None), n_read))  # of the first row, 11 tokens are padding
    state.advance(n_read, 20)
    next_logits = averager(rows[:, 20:21], state=state)[:, 0]
    for row, length, found in zip(rows, n_read, next_logits, strict=True):
        alone = torch.cat([row[:length], row[20:21]])
        torch.testing.assert_close(found, averager(alone[None])[0, -1], rtol=1e-4, atol=1e-5)

# %% [markdown]
# ## Exercise 2
#
# A hybrid: the first block averages, the second attends. How is that said in a config?
#
# *Solution.* By a list, which is repeated over the blocks.

# %%
hybrid = ModelConfig(implementation=("average", "transformer"), vocab_size=4, **shape)
both = learn("parity_hybrid", Parities(), hybrid, 150)
print(f"a hybrid tells {right(both):.3f} of the parities")
assert [type(block.mixer).__name__ for block in both.layers] == ["MovingAverage", "Attention"]
assert right(both) > 0.95
