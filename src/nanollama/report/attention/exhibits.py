"""What the explorer of a run shows: sequences, patterns that heads are scored by, what marks mean.

A study says so by a function of a run's config that ``STUDY.exhibits`` names. One that says nothing gets the
batch that its stream would give next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nanollama.data.batch import IGNORE, Batch
from nanollama.studies import Study
from nanollama.training.run_config import TrainingRunConfig

MAX_SCORED = 64
"""Sequences of a stream that heads are scored on; the page shows the first of them."""


@dataclass(frozen=True)
class Shown:
    """A sequence.

    Args:
        title: what it is an example of.
        tokens: (T,) that the model reads.
        answers: by position, the token that is right there: where the model is asked.
    """

    title: str
    tokens: tuple[int, ...]
    answers: Mapping[int, int]


@dataclass(frozen=True)
class Pattern:
    """Where the head of a kind would look.

    Args:
        name: of the pattern.
        words: what it is, in a sentence or two.
        mask: from tokens (T,) int64 to (T, T) bool: may a query (row) look at a key (column)? A query that
            may look nowhere is not part of the pattern. Keys after a query are left out where a model is
            causal.
        example: tokens of a drawing of it.
        labels: of these tokens.
    """

    name: str
    words: str
    mask: Callable[[Tensor], Tensor]
    example: tuple[int, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Exhibits:
    """What a page shows of a run.

    Args:
        sequences: heads are scored on all of them, and the page shows the first ones.
        where: they come from, in a few words.
        spell: how a token is written.
        patterns: beside those of `GENERIC`.
        marks: what labels of tokens, such as ``|``, stand for.
        in_place: is the right token the one at its position, as of masked tokens, and not the next one?
    """

    sequences: tuple[Shown, ...]
    where: str
    spell: Callable[[int], str] = str
    patterns: tuple[Pattern, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    in_place: bool = False


def previous_token(tokens: Tensor) -> Tensor:
    """Each token looks at the one before it."""
    return torch.ones(len(tokens), len(tokens)).diagonal(-1).diag(-1).bool()


def induction(tokens: Tensor) -> Tensor:
    """Each token looks at those before it that came right after the same token."""
    same = (tokens[:, None] == tokens[None, :]).tril(-2)
    return torch.cat([torch.zeros(len(tokens), 1, dtype=torch.bool), same[:, :-1]], dim=1)


def beginning(tokens: Tensor) -> Tensor:
    """Each token but the first looks at the first."""
    mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    mask[1:, 0] = True
    return mask


_LETTERS = ("a", "b", "c", "a", "b", "c")
_EXAMPLE = (0, 1, 2, 0, 1, 2)
GENERIC = (
    Pattern("previous token", "Each token looks at the one before it.", previous_token, _EXAMPLE, _LETTERS),
    Pattern(
        "induction",
        "Each token looks for where it stood before, and at what came after it there: behind a b … a, at b. "
        "So a model goes on with what it has read before.",
        induction,
        _EXAMPLE,
        _LETTERS,
    ),
    Pattern(
        "beginning of row",
        "Each token looks at the first. Heads rest there when nothing else is to be fetched.",
        beginning,
        _EXAMPLE,
        _LETTERS,
    ),
)
"""Patterns of any sequence."""


def from_batch(batch: Batch, title: Callable[[int], str] = "row {}".format) -> tuple[Shown, ...]:
    """The rows of a batch that are asked something; of packed rows, the first document."""
    shown = []
    for row, tokens in enumerate(batch.input_ids.tolist()):
        targets = batch.targets[row].tolist()
        places = range(len(tokens)) if batch.query_positions is None else batch.query_positions[row].tolist()
        stop = len(tokens)
        if batch.documents is not None:
            stop = int((batch.documents[row] == batch.documents[row, 0]).sum())
        answers = {
            place: target
            for place, target in zip(places, targets, strict=True)
            if target != IGNORE and place < stop
        }
        if answers:
            stop = stop if batch.sees_all else max(answers) + 1  # behind it is padding
            shown.append(Shown(title(row), tuple(tokens[:stop]), answers))
    return tuple(shown)


def of_stream(study: Study, config: TrainingRunConfig) -> Exhibits:
    """What a study that says nothing shows: the batch that follows the last step, and no marks."""
    step = config.resolved_training.n_steps
    with study.module("train").build_parts(config) as parts:
        batch = parts.stream.batch(step)
        return Exhibits(
            sequences=mixed(from_batch(batch)),
            where=f"the batch that would follow the last step of training, number {step:,}",
            spell=parts.spell,
            in_place=batch.sees_all,
        )


def mixed(sequences: Sequence[Shown], n_first: int = 6) -> tuple[Shown, ...]:
    """At most `MAX_SCORED` of sequences in the order of their length, of which the first few are of any."""
    every = -(-len(sequences) // MAX_SCORED)
    found = sequences[:: max(every, 1)]
    stride = max(-(-len(found) // n_first), 1)
    return tuple(shown for start in range(stride) for shown in found[start::stride])


def by_length(sequences: Sequence[Shown]) -> list[tuple[list[int], Tensor]]:
    """Sequences side by side: the numbers of those of one length, and their tokens (B, T) int64."""
    groups: dict[int, list[int]] = {}
    for number, shown in enumerate(sequences):
        groups.setdefault(len(shown.tokens), []).append(number)
    return [
        (numbers, torch.tensor([sequences[number].tokens for number in numbers]))
        for numbers in groups.values()
    ]
