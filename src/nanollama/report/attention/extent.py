"""How much of a run goes onto one page: as many sequences and checkpoints as stay within its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from nanollama.model.protocol import LanguageModel
from nanollama.report.attention.exhibits import Exhibits, Shown
from nanollama.report.attention.looks import N_TOLD, Change, View, changes_of

MAX_BYTES = 2_400_000
"""Of maps and answers; with the rest, a page stays under 3 MB."""
MAX_FLOPS = 4e12
"""Of all forward passes: a minute or two on a CPU."""
SIZES = ((6, 8), (4, 8), (4, 6), (3, 5), (2, 4))
"""Most sequences and checkpoints, in the order in which they are tried."""
SMALLEST = ((2, 3), (1, 2), (1, 1))
LENGTHS = (256, 160, 96)
"""Most tokens of a sequence, likewise."""
SHORT = (96, 64, 32)
"""The same where ideal maps are left out."""


@dataclass(frozen=True)
class Extent:
    """What goes onto a page.

    Args:
        sequences: that are shown, cut where they are too long.
        scored: that heads are scored on, cut alike.
        steps: of the checkpoints, ascending.
        changes: of the model whose answers are told.
        left_out: what does not, in sentences.
    """

    sequences: tuple[Shown, ...]
    scored: tuple[Shown, ...]
    steps: tuple[int, ...]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...] = ()


def choose_extent(
    model: LanguageModel, exhibits: Exhibits, steps: Sequence[int], views: Sequence[View], patterns: Sequence
) -> Extent:
    """The largest extent within the bounds, or the smallest there is."""
    every = changes_of(views, patterns)
    off = [change for change in every if change.pattern is None]
    chosen = Extent((), (), (), ())
    for (length, changes), (n_sequences, n_steps) in [
        *product([(length, every) for length in LENGTHS], SIZES),
        *product([(length, off) for length in SHORT], SIZES),
        *product([(SHORT[-1], list[Change]())], (*SIZES, *SMALLEST)),
    ]:
        scored = cut(exhibits.sequences, length)
        chosen = Extent(scored[:n_sequences], scored, spread(steps, n_steps), tuple(changes))
        if n_bytes(chosen, views, model) <= MAX_BYTES and n_flops(chosen, model) <= MAX_FLOPS:
            break
    return replace(chosen, left_out=_left_out(chosen, exhibits, steps, len(every), len(off)))


def cut(sequences: Sequence[Shown], length: int) -> tuple[Shown, ...]:
    """The first tokens of each; those that then ask nothing are left out, unless all would be."""
    found = [
        replace(
            shown,
            tokens=shown.tokens[:length],
            answers={place: token for place, token in sorted(shown.answers.items()) if place < length},
        )
        for shown in sequences
    ]
    return tuple([shown for shown in found if shown.answers] or found)


def spread(steps: Sequence[int], n: int) -> tuple[int, ...]:
    """At most n of the steps, evenly spread, the last one always and the first one if there are two."""
    if n == 1 or len(steps) == 1:
        return (steps[-1],)
    return tuple(dict.fromkeys(steps[index * (len(steps) - 1) // (n - 1)] for index in range(n)))


def n_bytes(extent: Extent, views: Sequence[View], model: LanguageModel) -> float:
    """Of maps and answers on the page; base64 has four letters for three bytes."""
    is_causal = getattr(model.config, "causal", True)
    maps = sum(len(shown.tokens) * (len(shown.tokens) + 1) for shown in extent.sequences)
    maps = maps * len(views) // (2 if is_causal else 1)
    n_asked = sum(len(shown.answers) for shown in extent.sequences)
    answers = n_asked * (3 * N_TOLD + 1 + 4 * len(extent.changes))
    return 4 / 3 * len(extent.steps) * (maps + answers)


def n_flops(extent: Extent, model: LanguageModel) -> float:
    """Of all forward passes: one for maps, one for answers, one a change, one a token for influence."""
    shown = sum(
        model.forward_flops(len(shown.tokens)) * (2 + len(extent.changes) + len(shown.tokens))
        for shown in extent.sequences
    )
    scored = sum(model.forward_flops(len(shown.tokens)) for shown in extent.scored)
    return len(extent.steps) * (shown + scored)


def _left_out(
    extent: Extent, exhibits: Exhibits, steps: Sequence[int], n_changes: int, n_off: int
) -> tuple[str, ...]:
    said = []
    if len(steps) > len(extent.steps):
        said.append(
            f"{len(extent.steps)} of {len(steps)} intact checkpoints are shown, spread over training."
        )
    elif len(steps) == 1:
        said.append("Only one intact checkpoint was kept; training.checkpoint.keep=null keeps all.")
    n_scored, n_shown = len(extent.scored), len(extent.sequences)
    if n_scored > n_shown:
        said.append(f"Heads are scored on {n_scored} sequences, of which the first {n_shown} are shown.")
    longest = max(len(shown.tokens) for shown in exhibits.sequences)
    if longest > (length := max(len(shown.tokens) for shown in extent.scored)):
        said.append(f"Of sequences of up to {longest} tokens, the first {length} are read.")
    if len(extent.changes) < n_off:
        said.append("What becomes of the answers when a head is switched off would be too much for a page.")
    elif len(extent.changes) < n_changes:
        said.append("Ideal maps in the place of a head's own would be too much for a page.")
    return tuple(said)
