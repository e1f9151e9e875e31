"""``nanollama data show CONFIG``: the first batch of a run of any study, read and predicted token by token.

Of each row shown, one line has the tokens that the model reads and the line below what it is to predict at
each of them; a dot where nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console

from nanollama.data.batch import IGNORE, Batch
from nanollama.entrypoint import run_main
from nanollama.studies import Study
from nanollama.training.run_config import TrainingRunConfig
from nanollama.wording import count, printable

N_ROWS_SHOWN = 6
MAX_COLUMNS = 1000
"""Of a row; texts can be very long."""
READ, ASKED, NOTHING = "read", "predict", "."


def show_batch(study: Study, argv: Sequence[str]) -> int:
    """Print the first batch of the run that a config describes; the exit code."""

    def run(config: TrainingRunConfig) -> None:
        with study.module("train").build_parts(config) as parts:
            batch = parts.stream.batch(0)
            for line in batch_lines(batch, parts.spell, Console().width):
                print(line)

    kind = study.configs["train"]
    assert issubclass(kind, TrainingRunConfig)
    return run_main(kind, run, argv, "Print the first batch of a run.", "nanollama data show", shows=True)


def batch_lines(batch: Batch, spell: Callable[[int], str], width: int) -> list[str]:
    """Some rows of a batch, as wide as that many characters, and its sizes."""
    n_rows, seq_len = batch.input_ids.shape
    chosen = sorted({int(row) for row in np.linspace(0, n_rows - 1, min(N_ROWS_SHOWN, n_rows))})
    lines = []
    for row in chosen:
        lines += [f"row {row}", *_row_lines(batch, row, spell, width)]
    share = batch.n_tokens / (n_rows * seq_len)
    return [
        *lines,
        f"{len(chosen)} of the batch's {count(n_rows, 'row')}",
        f"{n_rows} x {seq_len} inputs: {count(batch.n_tokens, 'token')}, {1 - share:.1%} padding",
        f"{batch.n_loss_tokens:,} of them carry loss",
    ]


def _row_lines(batch: Batch, row: int, spell: Callable[[int], str], width: int) -> list[str]:
    inputs, targets = batch.input_ids[row].tolist(), batch.targets[row].tolist()
    queries = range(len(inputs)) if batch.query_positions is None else batch.query_positions[row].tolist()
    asked = {at: target for at, target in zip(queries, targets, strict=True) if target != IGNORE}
    n_shown = len(inputs) if batch.sees_all else max(asked, default=-1) + 1  # behind it is padding
    n_shown = min(n_shown, MAX_COLUMNS)
    lines: list[str] = []
    for at in range(n_shown):
        pair = [_word(spell(inputs[at])), _word(spell(asked[at])) if at in asked else NOTHING]
        cell = max(map(len, pair)) + 1
        if not lines or len(lines[-1]) + cell > width:
            lines += [f"{label:<{len(ASKED)}}" for label in (READ, ASKED)]
        lines[-2:] = [f"{line}{text:>{cell}}" for line, text in zip(lines[-2:], pair, strict=True)]
    return lines


def _word(text: str) -> str:
    return printable(text).replace("\n", "\\n")
