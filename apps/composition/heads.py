"""Iteration heads: the patterns they show in attention maps, and scores that find them wherever they sit.

In the input ``[problem] x_1 .. x_L [end of input] s_1 .. s_L`` the end of input has position L + 1, and the
query at position L + 1 + k predicts s_{k+1}. Two patterns make up the circuit of arXiv 2406.02128:

- ``eoi``: each query after the end of input attends to the end of input (k = 1 .. L), which tells it L;
- ``iteration``: the query at L + 1 + k attends to x_{k+1} (k = 0 .. L - 1), in a later layer.

Shapes: B sequences of one length L, H heads, T = 2 L + 2 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Pattern = Literal["eoi", "iteration"]
PATTERNS: tuple[Pattern, ...] = ("eoi", "iteration")


def pattern_index(pattern: Pattern, length: int) -> tuple[Tensor, Tensor]:
    """Positions (L,) of the queries of a pattern, and of the key each of them should attend to."""
    steps = torch.arange(length)
    if pattern == "eoi":
        return length + 2 + steps, torch.full_like(steps, length + 1)
    return length + 1 + steps, 1 + steps


def ideal_maps(maps: Tensor, pattern: Pattern, length: int) -> Tensor:
    """Attention maps (B, H, T, T) in which the queries of a pattern attend to its keys alone."""
    queries, keys = pattern_index(pattern, length)
    ideal = maps.clone()
    ideal[:, :, queries] = 0.0
    ideal[:, :, queries, keys] = 1.0
    return ideal


def uniform_maps(maps: Tensor) -> Tensor:
    """Attention maps (B, H, T, T) in which each query attends alike to itself and to all before it."""
    seen = torch.ones_like(maps).tril()
    return seen / seen.sum(dim=-1, keepdim=True)


@dataclass(frozen=True)
class HeadScores:
    """How clearly each head of a layer shows a pattern: tensors of shape (H,), between 0 and 1.

    Args:
        mean: attention on the pattern.
        peakiness: share of its entries above one half.
        invariance: 1 - standard deviation over sequences: 1 when attention does not depend on content.
        any_peakiness: share of entries above one half in some head of the layer: one number, shape ().
    """

    mean: Tensor
    peakiness: Tensor
    invariance: Tensor
    any_peakiness: Tensor


def score_heads(maps: Tensor, pattern: Pattern, length: int) -> HeadScores:
    """Scores of the heads of a layer, from its attention maps (B, H, T, T) on sequences of one length."""
    queries, keys = pattern_index(pattern, length)
    entries = maps[:, :, queries, keys]
    return HeadScores(
        mean=entries.mean(dim=(0, 2)),
        peakiness=(entries > 0.5).to(maps.dtype).mean(dim=(0, 2)),
        invariance=1.0 - entries.std(dim=0, correction=0).mean(dim=-1),
        any_peakiness=(entries > 0.5).any(dim=1).to(maps.dtype).mean(),
    )


def entropy_bits(maps: Tensor, length: int) -> Tensor:
    """Mean entropy, in bits, of the attention of queries from the end of input on: shape (H,); 0 is sharp."""
    rows = maps[:, :, length + 1 :]
    return torch.special.entr(rows).sum(dim=-1).mean(dim=(0, 2)) / torch.log(torch.tensor(2.0))


@dataclass(frozen=True)
class Circuit:
    """The heads (layer, head), counted from 0, that together look most like an iteration head.

    Args:
        score: the smaller of their mean attentions on their patterns; 1 is the ideal circuit.
        eoi: the head that attends to the end of input.
        iteration: the head, in a later layer, that attends to the input of the step.
    """

    score: float
    eoi: tuple[int, int]
    iteration: tuple[int, int]


def find_circuit(eoi_means: Sequence[Tensor], iteration_means: Sequence[Tensor]) -> Circuit | None:
    """The best pair of heads, from the mean attention (H,) of each layer; None with fewer than two layers."""
    pairs = [
        Circuit(min(float(eoi[i]), float(iteration[j])), (first, i), (second, j))
        for first, eoi in enumerate(eoi_means)
        for second, iteration in enumerate(iteration_means)
        if first < second
        for i in range(len(eoi))
        for j in range(len(iteration))
    ]
    return max(pairs, key=lambda pair: pair.score, default=None)
