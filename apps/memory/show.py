"""Look at a batch: ``nanollama data show CONFIG`` prints what a model would read and what it would learn.

Tokens that carry loss are in colour; where there are no colours, they have a ``^`` below.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream, tokenizer_of
from nanollama.data.batch import IGNORE, Batch
from nanollama.entrypoint import run_main
from nanollama.tokenizer import DialogTokenizer
from nanollama.wording import printable

N_ROWS_SHOWN = 6
LEARNED, GIVEN = "bold green", "dim"
LINE_END = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"


class Document(NamedTuple):
    """A document of a batch: its ids, and which of them carry loss."""

    ids: np.ndarray
    loss_mask: np.ndarray


def show(config: MemoryConfig) -> None:
    """Print the first batch of a run."""
    stream, _ = build_stream(config)
    batch, tokenizer, console = stream.batch(0), tokenizer_of(config), Console(highlight=False)
    n_rows = len(batch.input_ids)
    chosen = sorted({int(row) for row in np.linspace(0, n_rows - 1, min(N_ROWS_SHOWN, n_rows))})
    for row in chosen:
        console.print(f"row {row}", style="dim")
        for document in documents_of(batch, row):
            print_document(console, document, tokenizer)
    for line in sizes_of(batch, len(chosen)):
        console.print(line, soft_wrap=True)


def documents_of(batch: Batch, row: int) -> Iterator[Document]:
    """The documents of a row, without padding."""
    inputs, targets = batch.input_ids[row].numpy(), batch.targets[row].numpy()
    n_inputs = len(inputs)
    queries = np.arange(n_inputs) if batch.query_positions is None else batch.query_positions[row].numpy()
    learned = {int(at): int(target) for at, target in zip(queries, targets, strict=True) if target != IGNORE}
    numbers = np.zeros(n_inputs, int) if batch.documents is None else batch.documents[row].numpy()
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), n_inputs]
    for start, stop in pairwise(edges):
        positions = [position for position in learned if start <= position < stop]
        if positions:  # padding is learned from nowhere
            last = max(positions)
            ids = np.array([*inputs[start : last + 1], learned[last]])
            mask = np.isin(np.arange(start, last + 2), [position + 1 for position in positions])
            yield Document(ids, mask)


def print_document(console: Console, document: Document, tokenizer: DialogTokenizer) -> None:
    """The text of a document, as wide as the console, with its learned parts marked."""
    has_colours = console.color_system is not None and not console.no_color
    characters = list(characters_of(document, tokenizer))
    for start in range(0, len(characters), console.width):
        line = characters[start : start + console.width]
        console.print(Text.assemble(*((text, LEARNED if learned else GIVEN) for text, learned in line)))
        if not has_colours:
            console.print("".join("^" if learned else " " for _, learned in line).rstrip())


def characters_of(document: Document, tokenizer: DialogTokenizer) -> Iterator[tuple[str, bool]]:
    """Each character to print, and whether it is learned; ends of lines are arrows."""
    pairs = zip(document.ids.tolist(), document.loss_mask.tolist(), strict=True)
    for learned, run in groupby(pairs, key=lambda pair: pair[1]):
        text = tokenizer.decode([token for token, _ in run])
        for character in printable(text).replace("\n", LINE_END):
            yield character, learned


def sizes_of(batch: Batch, n_shown: int) -> list[str]:
    """Lengths, tokens that carry loss, share of padding."""
    n_rows, seq_len = batch.input_ids.shape
    lengths = [len(document.ids) for row in range(n_rows) for document in documents_of(batch, row)]
    n_cells = n_rows * seq_len
    return [
        f"{n_shown} of the batch's {n_rows} rows",
        f"{len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens, {np.mean(lengths):.1f} on average",
        f"{n_rows} x {seq_len} inputs: {batch.n_tokens:,} tokens, {1 - batch.n_tokens / n_cells:.1%} padding",
        f"{batch.n_loss_tokens:,} tokens carry loss, {batch.n_loss_tokens / batch.n_tokens:.1%} of them",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    about = "Print the first batch of a run, tokens with loss marked."
    return run_main(MemoryConfig, show, argv, about, shows=True)


if __name__ == "__main__":
    sys.exit(main())
