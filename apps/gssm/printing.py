"""Tables of the study's commands: on the terminal and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanollama.measures import show_number
from nanollama.monitor.files import write_csv


def show_table(rows: Sequence[Mapping[str, Any]], out: Path | None = None) -> None:
    """Print rows of the same keys under each other, and write them into a file where one is named."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if out is not None:
        write_csv(out, list(rows[0]), ([*row.values()] for row in rows))
        print(f"wrote {out}")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return show_number(value)
    return str(value)
