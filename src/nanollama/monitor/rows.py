"""Tables that grow while a run lasts: one JSON object a line, each with the step it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanollama.errors import UserError
from nanollama.measures import finite
from nanollama.monitor.files import check_plain, read_text, sync_file, write_atomically

Row = Mapping[str, Any]

N_KNOWN_BYTES = 64
"""Before the place where reading goes on, which are to be what they were."""
SAMPLE_BYTES = 8192
"""Of a file, in which a whole line is expected."""


class RowFile:
    """Rows of increasing ``step`` in a JSON-lines file.

    A number that is not finite is written as null: JSON has no other word for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Row) -> None:
        """Write one row; it is in the file when this returns. A killed process leaves at most half of it."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite(row), allow_nan=False) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All complete rows; a last line that a killed process left unfinished is not one.

        Raises:
            UserError: any other line is not a JSON object with a ``step``, or it is not a file.
        """
        lines = (read_text(self.path) or "").split("\n")
        return _parse_all(lines[:-1], self.path)

    def last(self) -> dict[str, Any]:
        """The last complete row, empty when there is none; what is before it is not looked at.

        Raises:
            UserError: the last complete line is not a JSON object with a ``step``, or it is not a file.
        """
        check_plain(self.path)
        try:
            line = _last_line(self.path)
        except OSError:
            line = None
        row = None if line is None else _parse(line.decode("utf-8", errors="replace"))
        if row is None:  # who reads all of it says what is wrong, and in which line
            rows = self.read()
            row = rows[-1] if rows else {}
        return row

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


class RowReader:
    """Reads a file of rows that others write, from where it was left the last time.

    A file that was replaced, cut or begun anew, as by a run that goes on from a checkpoint, is read again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = 0
        self._n_lines = 0
        self._before = b""
        self._inode = 0

    def read_new(self) -> NewRows:
        """The complete rows since the last call; none where there is no file.

        Raises:
            UserError: a line is not a row; the next call reads it again.
        """
        try:
            with open(self.path, "rb") as file:
                is_anew = not self._goes_on(file.fileno()) and self._forget()
                file.seek(self._place)
                data = file.read()
                self._inode = os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return NewRows([], is_anew=self._forget())
        end = data.rfind(b"\n") + 1
        lines = data[:end].decode("utf-8", errors="replace").split("\n")[:-1]
        rows = _parse_all(lines, self.path, self._n_lines + 1)
        self._before = (self._before + data[max(0, end - N_KNOWN_BYTES) : end])[-N_KNOWN_BYTES:]
        self._place += end
        self._n_lines += len(lines)
        return NewRows(rows, is_anew)

    def sample(self, n_rows: int) -> list[dict[str, Any]]:
        """About so many rows, from all over the file, read without reading the rest of it."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            last = os.fstat(file.fileno()).st_size - SAMPLE_BYTES
            if last <= 0:
                lines = file.read().split(b"\n")[:-1]
            else:
                places = (last * number // max(1, n_rows - 1) for number in range(n_rows))
                lines = [_line_after(file.fileno(), place, place == last) for place in places]
        rows = (_parse(line.decode("utf-8", errors="replace")) for line in lines)
        found = {row["step"]: row for row in rows if row is not None}
        return [found[step] for step in sorted(found)]

    def _goes_on(self, descriptor: int) -> bool:
        """Is what was read still there, in the same file?"""
        known = os.pread(descriptor, len(self._before), self._place - len(self._before))
        return known == self._before and self._inode in (0, os.fstat(descriptor).st_ino)

    def _forget(self) -> bool:
        """Begin at the beginning; was anything read before?"""
        had_rows = self._place > 0
        self._place, self._n_lines, self._before, self._inode = 0, 0, b"", 0
        return had_rows


@dataclass(frozen=True)
class NewRows:
    """What a file has more than before.

    Args:
        rows: in order.
        is_anew: the file is another one, and what it held before is to be forgotten.
    """

    rows: list[dict[str, Any]]
    is_anew: bool


def _parse_all(lines: Sequence[str], path: Path, first: int = 1) -> list[dict[str, Any]]:
    """The rows of complete lines, of which the first has this number in its file."""
    rows = []
    for number, line in enumerate(lines, start=first):
        row = _parse(line)
        if row is None:
            raise UserError(
                f"{path}:{number} is not a JSON object with an integer `step`: mend or remove this "
                "line, or start anew with overwrite=true."
            )
        rows.append(row)
    return rows


def _last_line(path: Path) -> bytes | None:
    """The last complete line of a file, None where there is none; read from its end, in growing blocks."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        n_bytes = 0
        while n_bytes < size:
            n_bytes = min(size, 4 * n_bytes or SAMPLE_BYTES)
            file.seek(size - n_bytes)
            data = file.read(n_bytes)
            end = data.rfind(b"\n")
            begin = data.rfind(b"\n", 0, max(0, end)) + 1
            if end >= 0 and (begin > 0 or n_bytes == size):
                return data[begin:end]
    return None


def _line_after(descriptor: int, place: int, is_end: bool) -> bytes:
    """The first complete line after a place in a file, or the last; nothing where there is none."""
    data = os.pread(descriptor, SAMPLE_BYTES, place)
    first = data.find(b"\n") + 1 if place else 0
    if place and not first:
        return b""
    end = data.rfind(b"\n") if is_end else data.find(b"\n", first)
    return data[max(first, data.rfind(b"\n", 0, end) + 1) : end] if end >= first else b""


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # a number of 5,000 digits, or 5,000 brackets, are no row either
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
