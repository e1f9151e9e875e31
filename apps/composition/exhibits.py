"""What the explorer shows of a run: test sequences, the two patterns of the circuit, what P, I and E mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.figures import token_labels
from apps.composition.heads import Pattern as PatternName
from apps.composition.heads import pattern_index
from apps.composition.measures import Group, build_groups
from apps.composition.settings import CompositionConfig, MeasuresConfig
from nanollama.errors import UserError
from nanollama.report.attention.exhibits import Exhibits, Pattern, Shown

N_EACH = 32
"""Sequences of each task and length."""
EXAMPLE_INPUTS, EXAMPLE_LABELS = 3, ("P", "x1", "x2", "x3", "I", "s1", "s2", "s3")
MARKS = {
    "P": "opens a sequence and names its problem; x1, x2, … are the inputs that follow",
    "I": "the end of input (| in published figures): from here on the model writes the states s1, s2, …",
    "E": "the sequence ends",
}
WORDS: dict[PatternName, str] = {
    "eoi": "Behind the end of input, I, each token looks back at it. That tells how long the input was, and "
    "so how many states are written.",
    "iteration": "From the end of input on, each token looks at the input that is due: I at x1, s1 at x2, s2 "
    "at x3. What has been reached and this input make the next state.",
}
NAMES: dict[PatternName, str] = {"eoi": "end of input", "iteration": "iteration"}


def exhibits(config: CompositionConfig, length: int | None = None) -> Exhibits:
    """Test sequences of each task, long ones and ones half as long; or of a length.

    Raises:
        UserError: there are none of this length.
    """
    data = config.data
    lengths = [data.max_length, (data.min_length + data.max_length) // 2] if length is None else [length]
    measures = MeasuresConfig(n_sequences=N_EACH, splits=("test",))
    groups = build_groups(data, build_dataset(data), measures)
    known = sorted({group.length for group in groups})
    chosen = [group for size in dict.fromkeys(lengths) for group in groups if group.length == size]
    if not chosen and length is not None:
        raise UserError(
            f"The run has no test sequences of length {length}: expected one of {', '.join(map(str, known))}."
        )
    chosen = chosen or [group for group in groups if group.length == known[-1]]
    patterns = [circuit_pattern(data, name) for name in NAMES if name == "eoi" or data.chain_of_thought]
    labels = label_of(data)
    return Exhibits(
        sequences=tuple(
            shown_of(data, group, row) for row in range(N_EACH) for group in chosen if row < len(group.tokens)
        ),
        where="test sequences, none of which was learned from",
        spell=labels,
        patterns=tuple(patterns),
        marks=MARKS,
    )


def label_of(data: DataConfig) -> Callable[[int], str]:
    """What a token is written like on the page."""
    return lambda token: token_labels([token], data)[0]


def shown_of(data: DataConfig, group: Group, row: int) -> Shown:
    """A sequence of a group; it is asked from the end of input on."""
    tokens = group.tokens[row].tolist()
    task = data.tasks[group.task].implementation.replace("_", " ")
    first = group.length + 1
    return Shown(
        f"{task}, {group.length} inputs, number {row}",
        tuple(tokens[:-1]),
        {place: tokens[place + 1] for place in range(first, len(tokens) - 1)},
    )


def circuit_pattern(data: DataConfig, name: PatternName) -> Pattern:
    """One of the two patterns of an iteration head, wherever the end of input stands."""
    value, end = data.tokens.first_value, data.tokens.end_of_input
    inputs = [value] * EXAMPLE_INPUTS
    example = (data.tasks[0].problem_token, *inputs, end, *inputs)
    mask = partial(circuit_mask, name=name, end_of_input=end)
    return Pattern(NAMES[name], WORDS[name], mask, example, EXAMPLE_LABELS)


def circuit_mask(tokens: Tensor, name: PatternName, end_of_input: int) -> Tensor:
    """The pattern in tokens (T,): (T, T) bool; nothing where the input does not end."""
    mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    ends = (tokens == end_of_input).nonzero().flatten().tolist()
    if ends:
        queries, keys = pattern_index(name, ends[0] - 1)
        is_here = queries < len(tokens)  # without chain of thought, one state is all there is
        mask[queries[is_here], keys[is_here]] = True
    return mask
