"""Tables that grow while a run lasts: one JSON object a line, each with the step it belongs to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanollama.errors import UserError
from nanollama.monitor.files import read_text, sync_file, write_atomically

Row = Mapping[str, Any]


class RowFile:
    """Rows of increasing ``step`` in a JSON-lines file.

    A number that is not finite is written as null: JSON has no other word for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Row) -> None:
        """Write one row; it is in the file when this returns. A killed process leaves at most half of it."""
        clean = {key: _finite(value) for key, value in row.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All complete rows; a last line that a killed process left unfinished is not one.

        Raises:
            UserError: any other line is not a JSON object with a ``step``, or it is not a file.
        """
        lines = (read_text(self.path) or "").split("\n")
        rows = []
        for number, line in enumerate(lines[:-1], start=1):
            row = _parse(line)
            if row is None:
                raise UserError(
                    f"{self.path}:{number} is not a JSON object with an integer `step`: mend or remove this "
                    "line, or start anew with overwrite=true."
                )
            rows.append(row)
        return rows

    def last(self) -> dict[str, Any]:
        """The last complete row, empty when there is none."""
        rows = self.read()
        return rows[-1] if rows else {}

    def cut(self, step: int) -> int:
        """Remove rows past a step, and half a row at the end; returns how many whole rows were removed."""
        if not self.path.exists():
            return 0
        rows = self.read()
        kept = [row for row in rows if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if text != self.path.read_text(encoding="utf-8", errors="replace"):
            write_atomically(self.path, text)
        return len(rows) - len(kept)

    def sync(self) -> None:
        """Return when the rows would survive a power cut."""
        if self.path.exists():
            sync_file(self.path)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
