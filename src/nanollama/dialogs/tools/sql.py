"""The request language ``sql``: one plain SELECT on one table, run in a sandbox.

Three fences, one behind the other:

1. :func:`check_select` reads the words of a request and lets through one SELECT, the names of the table and
   its columns, literals, comparisons and a handful of keywords. So there is no function, no second statement,
   no WITH and no nested SELECT. The latter two are more than taste: SQLite copies a WITH for each mention of
   it, and an expression for each mention of its alias. 600 characters cost half a second and 140 MB before
   the first step was run, at a time when neither authorizer nor progress handler stops them.
2. :func:`fence_in` sets an authorizer on the connection, which allows to read these columns of this table and
   nothing else, and SQLite's own limits.
3. :class:`Meter` stops a statement after a number of steps, or of seconds of processor time. Neither depends
   on how busy the machine is: a reply depends on request and database only.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence

from nanollama.dialogs.tools.config import DatabaseConfig, Limits
from nanollama.dialogs.tools.replies import TOO_SLOW, RequestError, Row

_KEYWORDS = frozenset(
    {
        *("SELECT", "DISTINCT", "FROM", "WHERE", "ORDER", "BY", "ASC", "DESC", "LIMIT", "OFFSET"),
        *("AND", "OR", "NOT", "IN", "IS", "NULL", "BETWEEN"),
    }
)
_TOKEN = re.compile(
    r"[ \t\r\n]+|'(?:[^']|'')*'|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|[0-9]+|<>|!=|<=|>=|[<>=(),.;*]"
)
_STEPS_PER_CHECK = 1000


def check_select(request: str, config: DatabaseConfig) -> None:
    """Let one plain SELECT pass.

    Raises:
        RequestError: the request is anything else; the message names the first thing that is not understood.
    """
    known = _KEYWORDS | {name.upper() for name in (config.table, config.key, *config.attributes)}
    words = []
    for word in _words(request):
        if word.upper() not in known:
            raise RequestError(f"unknown word {word}")
        words.append(word.upper())
    if words[:1] != ["SELECT"] or words.count("SELECT") > 1:
        raise RequestError("write one SELECT")


def _words(request: str) -> Iterator[str]:
    position = 0
    while position < len(request):
        token = _TOKEN.match(request, position)
        if token is None:
            raise RequestError(f"unexpected {request[position]}")
        if token["word"]:
            yield token["word"]
        position = token.end()


def fence_in(connection: sqlite3.Connection, config: DatabaseConfig) -> None:
    """Let a connection read the table's columns of the config, and do nothing else from now on."""
    columns = {config.key, *config.attributes, ""}  # no column: the table is named, but not read

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        reads_table = action == sqlite3.SQLITE_READ and first == config.table and second in columns
        return sqlite3.SQLITE_OK if reads_table else sqlite3.SQLITE_DENY

    connection.execute("PRAGMA temp_store = MEMORY")  # sorting makes no file
    if config.language == "sql":
        _limit(connection, config.limits)
    connection.set_authorizer(authorize)


def _limit(connection: sqlite3.Connection, limits: Limits) -> None:
    if sys.version_info >= (3, 11):  # without it, check_select and Meter stand alone
        max_value_bytes = 4 * limits.max_request_chars + limits.max_reply_bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(max_value_bytes, 1000))
        connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VDBE_OP, 50_000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0)


class Meter:
    """Stops the statements of a connection that take too many steps or too long."""

    def __init__(self, connection: sqlite3.Connection, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._deadline = 0.0
        self._n_steps_left = 0.0
        self.stopped = False
        connection.set_progress_handler(self._check, _STEPS_PER_CHECK)

    def start(self, max_steps: float) -> None:
        """Begin to count, for one statement."""
        self._deadline = time.thread_time() + self._max_seconds
        self._n_steps_left = max_steps
        self.stopped = False

    def _check(self) -> bool:
        self._n_steps_left -= _STEPS_PER_CHECK
        self.stopped = self._n_steps_left < 0 or time.thread_time() > self._deadline
        return self.stopped


def run_statement(
    connection: sqlite3.Connection,
    meter: Meter,
    statement: str,
    values: Sequence[str] = (),
    *,
    max_steps: float,
    max_rows: int,
) -> list[Row]:
    """The rows of a statement on a fenced-in connection.

    Raises:
        RequestError: SQLite refuses the statement, or it asks for too much time, memory or rows.
    """
    meter.start(max_steps)
    try:
        rows = connection.execute(statement, tuple(values)).fetchmany(max_rows + 1)
    except (sqlite3.Error, sqlite3.Warning) as error:  # a Warning, in Python 3.10, for a second statement
        raise RequestError(TOO_SLOW if meter.stopped else error) from None
    except MemoryError:  # what Python makes of some of SQLite's limits
        raise RequestError("the query is too large") from None
    if len(rows) > max_rows:
        raise RequestError(f"more than {max_rows} rows, ask for fewer")
    return rows
