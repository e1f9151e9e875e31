"""A database that a model may ask: one table of an SQLite file, through Python's own ``sqlite3``."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from nanollama.dialogs.tools.config import DatabaseConfig
from nanollama.dialogs.tools.find import reply_to_finds
from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.dialogs.tools.replies import RequestError, Row, error_reply, read_request, value_reply
from nanollama.dialogs.tools.schema import check_schema
from nanollama.dialogs.tools.sql import Meter, check_select, fence_in, run_statement
from nanollama.errors import UserError

_logger = logging.getLogger(__name__)
_UNIQUE_COLUMNS = """
    SELECT max(column.name) FROM pragma_index_list(?) AS list JOIN pragma_index_info(list.name) AS column
    WHERE list.[unique] AND NOT list.partial GROUP BY list.name HAVING count(*) = 1
"""


class DatabaseTool(Tool):
    """Answers from one table of an SQLite file.

    Replies are the value asked for, ``unknown name`` (or ``no rows``, to a SELECT), or ``error: ...`` with a
    short sentence a model can learn from. ``ok`` of a reply says that a value was found. A file that fails
    while a name is looked up makes the replies ``error: ...``, and a warning is logged.

    The file is opened read-only and as immutable: nothing is written, nothing locked, no file appears beside
    it. It may be replaced or removed meanwhile (the tool goes on with the old one), but not written to. Any
    thread may use the tool, one at a time; a forked process must open its own.

    Raises:
        UserError: there is no such file, table or column, or the key is not unique.
    """

    role = "database"

    def __init__(self, config: DatabaseConfig) -> None:
        assert config.path is not None, "build_tool chooses this class for a config with a path"
        self._config = config
        self._lock = threading.Lock()
        self._closed = False
        columns = ", ".join(map(_quote, (config.key, *config.attributes)))
        self._select = f"SELECT {columns} FROM {_quote(config.table)} WHERE {_quote(config.key)}"
        self._connection = open_read_only(config.path)
        try:
            check_table(self._connection, config)
            fence_in(self._connection, config)
        except BaseException:
            self._connection.close()
            raise
        self._meter = Meter(self._connection, config.limits.max_seconds)

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """One reply a request. No request makes it raise; it raises ValueError once the tool is closed."""
        with self._lock:
            if self._closed:
                raise ValueError("The database tool is closed.")
            if self._config.language == "find":
                return reply_to_finds(requests, self._config, self._fetch)
            return [self._reply_to_select(request) for request in requests]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def _fetch(self, names: Sequence[str]) -> Iterable[Row]:
        # A column may take names that differ in case for one: what is alone in a batch must not matter.
        any_of = f"IN ({', '.join('?' * len(names))})"
        statement = f"{self._select} {any_of} AND {_quote(self._config.key)} COLLATE BINARY {any_of}"
        try:
            return run_statement(
                self._connection,
                self._meter,
                statement,
                (*names, *names),
                max_steps=math.inf,
                max_rows=len(names),
            )
        except RequestError as error:
            if self._meter.stopped:
                raise
            _logger.warning("The database '%s' failed: %s", self._config.path, error)  # the statement is ours
            raise RequestError("the database failed") from None

    def _reply_to_select(self, message: str) -> Reply:
        limits = self._config.limits
        try:
            request = read_request(message, limits)
            check_select(request, self._config)
            rows = run_statement(
                self._connection, self._meter, request, max_steps=limits.max_steps, max_rows=limits.max_rows
            )
        except RequestError as error:
            return error_reply(error, limits)
        return value_reply(rows, limits) if rows else Reply("no rows", ok=False)


def open_read_only(path: Path) -> sqlite3.Connection:
    """An SQLite file that can only be read, from any thread, one at a time.

    Raises:
        UserError: it does not exist, is no database, or is in the middle of being written.
    """
    if not path.is_file():
        raise UserError(f"There is no database file '{path}'; create it first, or correct its path.")
    for unfinished in (Path(f"{path}-wal"), Path(f"{path}-journal")):
        if unfinished.is_file() and unfinished.stat().st_size > 0:
            raise UserError(
                f"The database '{path}' is being written or was not closed ('{unfinished.name}' exists): "
                "end the program that writes it, or open it once with `sqlite3` to mend it."
            )
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(
            uri, uri=True, check_same_thread=False, isolation_level=None, cached_statements=0
        )
    except sqlite3.Error as error:
        raise UserError(f"The database '{path}' cannot be opened: {error}.") from None
    connection.text_factory = _decode
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.Error as error:
        connection.close()
        raise UserError(f"The file '{path}' cannot be read as an SQLite database: {error}.") from None
    return connection


def check_table(connection: sqlite3.Connection, config: DatabaseConfig) -> None:
    """See that the table and the columns are there, and that the key is unique.

    Raises:
        UserError: naming what is missing, and what there is instead.
    """
    tables = _names(connection, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    columns = _names(connection, "SELECT name FROM pragma_table_info(?)", config.table)
    check_schema(str(config.path), tables, columns if config.table in tables else [], config)
    if config.key not in _names(connection, _UNIQUE_COLUMNS, config.table):
        raise UserError(
            f"The column '{config.key}' of '{config.table}' in '{config.path}' has no unique index; "
            f"run CREATE UNIQUE INDEX by_{config.key} ON {config.table} ({config.key}) once."
        )


def _names(connection: sqlite3.Connection, query: str, *values: str) -> list[str]:
    return [name for (name,) in connection.execute(query, values)]


def _quote(name: str) -> str:
    return f"[{name}]"  # in double quotes, SQLite would take a misspelt name for a text


def _decode(text: bytes) -> str:
    return text.decode(errors="replace")
