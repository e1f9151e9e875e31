"""Parameters of ours and of Hugging Face's, by one table for both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Layout = Literal["same", "transposed", "channels"]


@dataclass(frozen=True)
class Weight:
    """A parameter of ours, and theirs that stand one behind another in it.

    Args:
        ours: its name.
        theirs: rows of ours that each of theirs is, by their names.
        layout: of theirs: the same; transposed (columns instead of rows); with an axis of 1 in the middle.
    """

    ours: str
    theirs: Mapping[str, int]
    layout: Layout = "same"


def to_theirs(weights: Sequence[Weight], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their parameters from ours. A bias that we have not is 0 there.

    Raises:
        KeyError: a parameter is missing.
    """
    taken: dict[str, Tensor] = {}
    for weight in weights:
        n_rows = sum(weight.theirs.values())
        is_no_bias = weight.ours.endswith(".bias") and weight.ours not in state
        whole = torch.zeros(n_rows) if is_no_bias else state[weight.ours].detach().cpu()
        for name, part in zip(weight.theirs, whole.split(list(weight.theirs.values())), strict=True):
            taken[name] = _arranged(part, weight.layout).clone(memory_format=torch.contiguous_format)
    return taken


def to_ours(weights: Sequence[Weight], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters, in float32, from theirs.

    Raises:
        KeyError: a parameter is missing.
    """
    return {
        weight.ours: torch.cat([_arranged_back(state[name], weight.layout).float() for name in weight.theirs])
        for weight in weights
    }


def names(weights: Sequence[Weight]) -> Iterator[str]:
    """Names of all of theirs."""
    for weight in weights:
        yield from weight.theirs


def _arranged(part: Tensor, layout: Layout) -> Tensor:
    if layout == "transposed":
        return part.T
    return part[:, None] if layout == "channels" else part


def _arranged_back(part: Tensor, layout: Layout) -> Tensor:
    if layout == "transposed":
        return part.T
    return part[:, 0] if layout == "channels" else part
