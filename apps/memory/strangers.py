"""People that nobody has met: names and values drawn letter by letter, in a database of their own.

They are made to be hard to copy: few different letters, so that many are repeated; every second name is
the one before with a letter put behind its first name, as in Ann Bell and Anna Bell; letters of several
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from apps.memory.dataset.paths import TABLE
from apps.memory.dataset.people import ATTRIBUTES, Person
from apps.memory.dataset.sql_db import write_rows
from nanollama.dialogs.tools import DatabaseConfig, Tool, build_tool

ALPHABETS = ("an", "abcdefghijklmnopqrstuvwxyz", "aeéèêë", "0123456789-", "Ab.,:'?")
MAX_WORD_CHARS = 8


def make_strangers(n_people: int, rng: np.random.Generator) -> list[Person]:
    """So many people of different names; names and values are two words of one to eight characters."""
    strangers: dict[str, Person] = {}
    while len(strangers) < n_people:
        first, last = _word(rng), _word(rng)
        for name in (f"{first} {last}", f"{first}{first[-1]} {last}"):
            if name not in strangers and len(strangers) < n_people:
                values = [f"{_word(rng)} {_word(rng)}" for _ in ATTRIBUTES]
                strangers[name] = Person(len(strangers), name, *values)
    return list(strangers.values())


@contextmanager
def database_of(strangers: list[Person]) -> Iterator[Tool]:
    """A database that holds them, and nothing once the block is left."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "strangers.sqlite"
        write_rows(path, sorted(person[1:] for person in strangers))
        tool = build_tool(DatabaseConfig(path=path, table=TABLE, attributes=ATTRIBUTES))
        try:
            yield tool
        finally:
            tool.close()


def _word(rng: np.random.Generator) -> str:
    alphabet = ALPHABETS[rng.integers(len(ALPHABETS))]
    n_chars = rng.integers(1, MAX_WORD_CHARS + 1)
    return "".join(alphabet[index] for index in rng.integers(len(alphabet), size=n_chars))
