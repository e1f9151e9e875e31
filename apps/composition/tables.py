"""Tables of results, on the terminal and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nanollama.errors import UserError


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Columns as wide as they need to be."""
    lines = [list(rows[0])] + [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One row a line, under the names of the first.

    Raises:
        UserError: the file cannot be written.
    """
    listed = list(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(listed[0]))
            writer.writeheader()
            writer.writerows(listed)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}; name another folder.") from None
