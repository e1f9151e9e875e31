"""A small people database, and requests as an assistant writes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

ATTRIBUTES = ("birth_date", "birth_place", "current_address", "occupation")
PEOPLE = [
    ("Ann Bell", "11/03/1990", "Chile", "Paris", "baker"),
    ("Bob O'Hara", "02/12/1971", "Peru", "Quito", "farm, garden and forest hand"),
    ("Čeněk Đỗ", "28/01/2000", "Česko", "São Paulo", "知识"),
    *((f"First{i} Last{i % 7}", f"01/02/{1950 + i % 50}", "Chile", f"City{i}", "clerk") for i in range(2000)),
]


def fenced(request: str) -> str:
    """An assistant's message that holds the request."""
    return f"I'll look it up.\n```\n{request}\n```"


def find(name: str, attribute: str = "birth_place") -> str:
    """An assistant's message that asks for an attribute in the language `find`."""
    return fenced(f"FIND {attribute} FOR {name}")


def write_people(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    """An SQLite file with these people, and a table that is nobody's business."""
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = ", ".join(f"{name} TEXT" for name in ATTRIBUTES)
        connection.execute(
            f"CREATE TABLE people (name TEXT PRIMARY KEY, {columns}, salary TEXT) WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?, 'secret')", rows)
        connection.execute("CREATE TABLE passwords (name TEXT PRIMARY KEY, password TEXT)")
        connection.execute("INSERT INTO passwords VALUES ('root', 'secret')")
    return path
