"""Tables of results on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Columns as wide as they need to be."""
    lines = [list(rows[0])] + [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
