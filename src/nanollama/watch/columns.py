"""The numbers of a file of rows, a column a name, read as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nanollama.errors import UserError
from nanollama.measures import is_number
from nanollama.monitor.rows import RowReader

STEP = "step"
PLAIN = {int, float, type(None)}
N_SAMPLED = 32
"""Rows of a file that stand for all until they are read."""
MAX_NAMES = 2_000
"""Of the columns of a file: each takes room for all rows, and no run measures so much."""
RARE = 8
"""A name that fewer than one in so many rows have is looked for in those alone."""


class Columns:
    """Numbers by name and row, as the file has them; NaN where a row lacks one.

    Args:
        path: of the file, which others write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: Mapping[str, Any] = {}
        self._reader = RowReader(path)
        self._values: dict[str, np.ndarray] = {}
        self._n_rows = 0
        self._is_sample = self._is_cut = False

    def __len__(self) -> int:
        return self._n_rows

    @property
    def names(self) -> list[str]:
        """Of the columns that hold numbers, the step left out."""
        return [name for name in self._values if name != STEP]

    def array(self, name: str) -> np.ndarray:
        """(n_rows,) The values of a column, in the order of the rows; not to be written to."""
        if name not in self._values:
            return np.broadcast_to(np.nan, self._n_rows)
        return self._values[name][: self._n_rows]

    def sample(self) -> None:
        """Take some rows from all over the file, which the next `read` replaces by all of them."""
        self._take(self._reader.sample(N_SAMPLED))
        self._is_sample = True

    def read(self) -> bool:
        """Take the rows that have come since; has anything changed?

        Raises:
            UserError: a row is damaged.
        """
        new = self._reader.read_new()
        if new.is_anew or self._is_sample:
            self._values, self._n_rows, self.last = {}, 0, {}
            self._is_sample = self._is_cut = False
        self._take(new.rows)
        return new.is_anew or bool(new.rows)

    def check_names(self) -> None:
        """Say so where there are more columns than are taken, which a file that somebody has made may have.

        Raises:
            UserError: there are.
        """
        if self._is_cut:
            raise UserError(f"{self.path} has more than {MAX_NAMES:,} names: the others are not shown.")

    def _take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        n_before, self._n_rows, self.last = self._n_rows, self._n_rows + len(rows), rows[-1]
        n_rows_with = Counter(chain.from_iterable(rows))
        rare = _places(rows, {name for name, n in n_rows_with.items() if n * RARE < len(rows)})
        for name in n_rows_with:
            if name not in self._values and len(self._values) >= MAX_NAMES:
                self._is_cut = True
                continue
            places = rare.get(name)
            found = _numbers(rows if places is None else [rows[place] for place in places], name)
            if name in self._values or np.isfinite(found).any():
                new = self._room(name, n_before)[n_before : self._n_rows]
                if places is not None:
                    new[:] = np.nan
                new[slice(None) if places is None else places] = found
        for name in self._values.keys() - set().union(*rows):
            self._room(name, n_before)[n_before : self._n_rows] = np.nan

    def _room(self, name: str, n_before: int) -> np.ndarray:
        """The values of a column, with room for all rows; what is new of it is not yet set."""
        known = self._values.get(name)
        if known is None or len(known) < self._n_rows:
            room = np.full(self._n_rows + n_before // 8, np.nan)  # a file that is read at once has no more
            room[:n_before] = np.nan if known is None else known[:n_before]
            self._values[name] = known = room
        return known


def _places(rows: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, list[int]]:
    """Which rows have each of some names."""
    places: dict[str, list[int]] = {name: [] for name in names}
    if names:
        for place, row in enumerate(rows):
            for name in row.keys() & names:
                places[name].append(place)
    return places


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """As floats; NaN where it is not a number, or not a finite one."""
    values = [row.get(name) for row in rows]
    try:
        found = np.array(values, dtype=float) if set(map(type, values)) <= PLAIN else None
    except OverflowError:  # a whole number of 400 digits
        found = None
    if found is None:
        found = np.array([value if is_number(value) else np.nan for value in values], dtype=float)
    found[~np.isfinite(found)] = np.nan
    return found
