"""The people as an SQLite database: table `people`, one row a person, both populations.

``python -m apps.memory.dataset.sql_db create|query|delete [--root DIR] ...``
"""

from __future__ import annotations

import argparse
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from apps.memory.dataset.command import add_num, add_root
from apps.memory.dataset.files import format_size, replacing
from apps.memory.dataset.paths import TABLE, database_path
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE, POPULATIONS, people
from nanollama.entrypoint import Parser, guard
from nanollama.errors import UserError
from nanollama.wording import printable

COLUMNS = ("name", *ATTRIBUTES)

_PROGRAM = "python -m apps.memory.dataset.sql_db"
_MAX_ROWS_SHOWN = 50
_N_SLOW = 20_000  # people: then it takes seconds, of which something should be said
_STEPS_PER_LOOK = 100_000  # of SQLite's virtual machine: some milliseconds
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

Row = tuple[str, ...]


def create_database(root: Path, n_people: int = N_PEOPLE, overwrite: bool = False) -> str:
    """Make `database_path` with the first `n_people` of each population, and say so.

    A database that is there already is kept if it holds these people, and replaced if it holds fewer.

    Raises:
        UserError: the file cannot be written, or holds something else.
    """
    path, start = database_path(root), time.perf_counter()
    with replacing(path) as new_path:
        if path.exists() and not overwrite and (n_there := _n_people_there(root)) >= n_people:
            return f"kept {path}: it holds {_spell(n_there)}; add --overwrite to make it anew"
        try:
            write_rows(new_path, _rows(n_people))
        except sqlite3.Error as error:
            raise UserError(f"Cannot write {path}: {error}.") from error
        os.replace(new_path, path)
    size, seconds = format_size(path.stat().st_size), time.perf_counter() - start
    return f"wrote {path}: {_spell(n_people)}, {size}, {seconds:.1f} s"


def ensure_database(root: Path, n_people: int = N_PEOPLE) -> Path:
    """The database with at least the first `n_people` of each population, made or extended if need be.

    Raises:
        UserError: the file cannot be written, or holds something else.
    """
    path = database_path(root)
    if not path.exists() or not _holds_person(path, n_people - 1):
        if n_people >= _N_SLOW:
            print(f"making {path} once: {_spell(n_people)}", flush=True)
        print(create_database(root, n_people), flush=True)
    return path


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Make a database whose table holds these rows of name and attributes, fastest when sorted by name."""
    columns = ", ".join(f"{attribute} TEXT NOT NULL" for attribute in ATTRIBUTES)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A crash leaves a file of another name, so nothing is lost by not journalling.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE {TABLE}(name TEXT PRIMARY KEY, {columns}) WITHOUT ROWID")
        marks = ", ".join("?" for _ in COLUMNS)
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", rows)
        connection.execute("COMMIT")


def read_rows(path: Path) -> list[Row]:
    """All rows of a database, by name.

    Raises:
        sqlite3.Error: it is not one of people.
    """
    with closing(_connect_read_only(path)) as connection:
        statement = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} ORDER BY name"
        return list(connection.execute(statement).fetchall())


def query_database(root: Path, statement: str, values: Sequence[str] = ()) -> tuple[Row, list[Row]]:
    """Column names and at most 51 rows of a SELECT, read-only.

    Raises:
        UserError: there is no database, or SQLite refuses the statement.
    """
    path = _existing(root)
    try:
        with closing(_connect_read_only(path)) as connection:
            connection.set_authorizer(_authorize)
            connection.set_progress_handler(lambda: None, _STEPS_PER_LOOK)  # lets Python see a Ctrl-C
            cursor = connection.execute(statement, values)
            rows = [tuple(map(_cell, row)) for row in cursor.fetchmany(_MAX_ROWS_SHOWN + 1)]
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        if str(error) == "interrupted":
            raise KeyboardInterrupt from None
        columns = ", ".join(COLUMNS)
        raise UserError(
            f"SQLite refuses the query: {error}; give one SELECT from {TABLE}({columns})."
        ) from None
    if cursor.description is None:
        raise UserError(f"The query asks for nothing; give one SELECT from {TABLE}({', '.join(COLUMNS)}).")
    return tuple(column[0] for column in cursor.description), rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return guard(lambda: _run(_parser().parse_args(argv)))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.verb == "create":
        fewer = "; --num N takes fewer" if arguments.num == N_PEOPLE else ""
        print(f"{create_database(arguments.root, arguments.num, arguments.overwrite)}{fewer}")
    elif arguments.verb == "query":
        _query(arguments.root, arguments.statement, arguments.name)
    else:
        _delete(arguments.root, arguments.yes)


def _query(root: Path, statement: str | None, name: str | None) -> None:
    if (statement is None) == (name is None):
        raise UserError("Give either a SELECT statement or --name with the name of a person.")
    if statement is not None:
        header, rows = query_database(root, statement)
    else:
        header, rows = query_database(root, f"SELECT * FROM {TABLE} WHERE name = ?", [str(name)])
        if not rows:
            raise UserError(f"{database_path(root)} has nobody named '{name}'.")
    for line in _table(header, rows[:_MAX_ROWS_SHOWN]):
        print(line)
    if len(rows) > _MAX_ROWS_SHOWN:
        print(f"... (the first {_MAX_ROWS_SHOWN} rows)")


def _delete(root: Path, yes: bool) -> None:
    path = _existing(root)
    if not yes:
        print(f"Delete {path} ({format_size(path.stat().st_size)})? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print(f"kept {path}")
            return
    try:
        path.unlink()
    except OSError as error:
        raise UserError(f"Cannot delete {path}: {error.strerror}.") from error
    print(f"deleted {path}")


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description="The people as an SQLite database.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="create|query|delete")
    descriptions = {
        "create": "make the database, with both populations",
        "query": "show the answer to a SELECT, or all facts of a person",
        "delete": "remove the database file",
    }
    for verb, description in descriptions.items():
        command = verbs.add_parser(verb, prog=f"{_PROGRAM} {verb}", description=description, help=description)
        add_root(command)
    create, query, delete = verbs.choices.values()
    add_num(create)
    create.add_argument("--overwrite", action="store_true", help="replace whatever is there")
    query.add_argument("statement", nargs="?", help="\"SELECT name FROM people WHERE occupation = 'pilot'\"")
    query.add_argument("--name", help="a person's first and last name")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _rows(n_people: int) -> list[Row]:
    """Rows of the table, by name: SQLite appends sorted rows twice as fast as it inserts others."""
    return sorted(person[1:] for population in POPULATIONS for person in people(0, n_people, population))


def _spell(n_people: int) -> str:
    """How many people so many of each population are, and who."""
    whom = "all" if n_people == N_PEOPLE else "the first"
    return f"{2 * n_people:,} people ({whom} {n_people:,} that models learn about, and as many of new names)"


def _n_people_there(root: Path) -> int:
    """How many people of each population the database holds.

    Raises:
        UserError: its rows are not those of the first n people of each population, for any n.
    """
    path = database_path(root)
    with suppress(sqlite3.Error):
        rows = read_rows(path)
        n_people = len(rows) // len(POPULATIONS)
        if n_people <= N_PEOPLE and rows == _rows(n_people):
            return n_people
    raise UserError(
        f"{path} holds something else than the people of this study; "
        f"move the file away to keep it, or run `{_command('create --overwrite', root)}` to replace it."
    )


def _holds_person(path: Path, index: int) -> bool:
    """Does the database know person `index` of each population, and so all before them?"""
    statement = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE name = ?"
    try:
        with closing(_connect_read_only(path)) as connection:
            return all(
                connection.execute(statement, person[1:2]).fetchone() == person[1:]
                for population in POPULATIONS
                for person in people(index, index + 1, population)
            )
    except sqlite3.Error:
        return False


def _existing(root: Path) -> Path:
    path = database_path(root)
    if not path.is_file():
        raise UserError(f"There is no database {path}; run `{_command('create', root)}` to make it.")
    return path


def _command(verb: str, root: Path) -> str:
    return f"{_PROGRAM} {verb} --root {shlex.quote(str(root))}"


def _connect_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _cell(value: object) -> str:
    return "NULL" if value is None else printable(str(value)).replace("\n", "\\n")


def _table(header: Row, rows: Sequence[Row]) -> list[str]:
    """Lines of a table whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


if __name__ == "__main__":
    sys.exit(main())
