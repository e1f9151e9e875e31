"""A database that a model may ask, on any server that SQLAlchemy speaks to."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import CHAR, NCHAR, URL, ColumnClause, Connection, Engine, exc

from nanollama.dialogs.tools.config import DatabaseConfig, password_variable
from nanollama.dialogs.tools.database import open_read_only
from nanollama.dialogs.tools.find import OneByOneError, reply_to_finds
from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.dialogs.tools.replies import TOO_SLOW, RequestError, Row
from nanollama.dialogs.tools.schema import check_schema
from nanollama.dialogs.tools.sql import Meter
from nanollama.errors import MissingExtraError, UserError

_CONNECT_SECONDS = 5
_PSYCOPG = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")
_SQLITE = ("sqlite", "sqlite+pysqlite")
_UNPADDED = ("sqlite", "mysql", "mariadb")  # whose CHAR gives back what was stored, or takes off the blanks
_QUERY_CANCELED = "57014"  # how PostgreSQL calls a statement stopped by its timeout
_INTERRUPTED = "interrupted"  # and SQLite
N_ALIKE = 1000
"""Rows beyond one a name that are read: of names that a column takes for one, or that several rows have."""

_logger = logging.getLogger(__name__)


class SqlAlchemyDatabaseTool(Tool):
    """Answers from one table of any database that has an SQLAlchemy URL; the language is ``find``.

    Replies are those of `nanollama.dialogs.tools.database.DatabaseTool`. The only statement ever sent is
    our own SELECT, its names bound as parameters, in a transaction that is rolled back. On PostgreSQL it is
    also read-only and limited in time, an SQLite file is opened read-only and read for no longer than the
    limit; elsewhere use an account that can only read. A key that is not unique is not refused: it is said of
    a name that several rows have it, of which at most a thousand are read.
    SELECTs written by a model are not offered: a server's functions reach its files, its network and other
    sessions, and what they may do depends on the account's rights, which are not ours to check.

    A server that fails or is too slow makes the replies ``error: ...``, and a warning is logged. Any thread
    may use the tool.

    Raises:
        UserError: the database cannot be reached, has not the table or columns, or its key pads
            names with blanks. Passwords are never shown.
        MissingExtraError: the driver is not installed.
    """

    role = "database"

    def __init__(self, config: DatabaseConfig) -> None:
        assert config.url is not None, "build_tool chooses this class for a config with a URL"
        self._config = config
        self._closed = False
        self._columns: list[ColumnClause[Any]] = [
            sqlalchemy.column(name) for name in (config.key, *config.attributes)
        ]
        self._engine = _make_engine(config.url)
        try:
            self._check_database()
        except BaseException:
            self._engine.dispose()
            raise

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """One reply a request. No request makes it raise; it raises ValueError once the tool is closed."""
        if self._closed:
            raise ValueError("The database tool is closed.")
        return reply_to_finds(requests, self._config, self._fetch)

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._engine.dispose()

    def _fetch(self, names: Sequence[str]) -> Iterable[Row]:
        try:
            return self._read(names)
        except (exc.SQLAlchemyError, UnicodeError, UserError) as error:  # the last: an SQLite file taken away
            _logger.warning("The database failed: %s", _reason(error, self._engine.url))
            cause = getattr(error, "orig", None)
            too_slow = getattr(cause, "sqlstate", None) == _QUERY_CANCELED or str(cause) == _INTERRUPTED
            raise RequestError(TOO_SLOW if too_slow else "the database failed") from None

    def _read(self, names: Sequence[str]) -> list[Row]:
        try:
            with self._engine.connect() as connection:
                rows = self._select(connection, names, len(names) + N_ALIKE + 1)
        except (exc.DataError, UnicodeError):  # of one of the names, or of what one of the rows holds
            if len(names) > 1:
                raise OneByOneError from None
            if self._can_express(names[0]):
                raise
            return []
        if len(rows) > len(names) + N_ALIKE and len(names) > 1:
            raise OneByOneError
        return rows

    def _can_express(self, name: str) -> bool:
        """Whether the encoding has all letters of a name; if not, it is not there. Reads no row."""
        try:
            with self._engine.connect() as connection:
                self._select(connection, [name], 0)
        except (exc.DataError, UnicodeError):
            return False
        return True

    def _select(self, connection: Connection, names: Sequence[str], max_rows: int) -> list[Row]:
        if connection.dialect.name == "postgresql":
            milliseconds = max(1, round(1000 * self._config.limits.max_seconds))
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.dbapi_connection
            Meter(driver, self._config.limits.max_seconds).start(math.inf)
        query = sqlalchemy.select(*self._columns).select_from(sqlalchemy.table(self._config.table))
        query = query.where(self._columns[0].in_(names)).limit(max_rows)
        return [tuple(row) for row in connection.execute(query)]

    def _check_database(self) -> None:
        url = self._engine.url
        shown = url.render_as_string(hide_password=True)
        try:
            with self._engine.connect() as connection:
                inspector = sqlalchemy.inspect(connection)
                tables = sorted(inspector.get_table_names() + inspector.get_view_names())
                found = self._config.table in tables
                columns = inspector.get_columns(self._config.table) if found else []
                check_schema(shown, tables, [column["name"] for column in columns], self._config)
                self._check_key(shown, next(c["type"] for c in columns if c["name"] == self._config.key))
            with self._engine.connect() as connection:
                self._select(connection, [""], 0)  # may we read it, and are names texts?
        except exc.SQLAlchemyError as error:
            raise UserError(f"The database '{shown}' cannot be used: {_reason(error, url)}.") from None

    def _check_key(self, database: str, kind: Any) -> None:
        """A CHAR gives names back padded with blanks, and they are not what was asked for."""
        kind = getattr(kind, "data_type", kind)  # of a domain
        if isinstance(kind, CHAR | NCHAR) and self._engine.dialect.name not in _UNPADDED:
            table = self._config.table
            raise UserError(
                f"The column '{self._config.key}' of '{table}' in '{database}' is of type "
                f"{type(kind).__name__}, which pads names with blanks: make it TEXT or VARCHAR."
            )


def _make_engine(text: str) -> Engine:
    url = _with_password(_parse_url(text))
    if url.get_backend_name() == "sqlite":
        return sqlalchemy.create_engine(url, creator=_sqlite_opener(url))
    patience = {"connect_timeout": _CONNECT_SECONDS} if url.drivername in _PSYCOPG else {}
    try:
        return sqlalchemy.create_engine(url, connect_args=patience, pool_pre_ping=True, hide_parameters=True)
    except exc.NoSuchModuleError:
        raise UserError(f"SQLAlchemy knows no database or driver called '{url.drivername}'.") from None
    except ImportError as error:
        if url.drivername == "postgresql+psycopg":
            raise MissingExtraError("psycopg", "sql") from None
        hint = "install it, or name another driver, as in postgresql+psycopg://"
        raise UserError(f"The driver of '{url.drivername}' is missing ({error}): {hint}.") from None


def _parse_url(text: str) -> URL:
    try:
        return sqlalchemy.make_url(text)
    except (exc.ArgumentError, ValueError):  # the latter: a port that is no number
        raise UserError(
            "The database URL is not understood; expected dialect+driver://user@host/database, "
            "as in postgresql+psycopg://reader@localhost/people."
        ) from None


def _with_password(url: URL) -> URL:
    """The URL with the value of the environment variable it names instead of a password."""
    name = password_variable(str(url.password)) if url.password else None
    if name is None:
        return url
    if name not in os.environ:
        raise UserError(f"The database URL takes its password from '{name}': set that variable.")
    return url.set(password=os.environ[name])


def _sqlite_opener(url: URL) -> Callable[[], sqlite3.Connection]:
    if url.drivername not in _SQLITE:
        raise UserError(
            f"SQLite is read by Python's own driver, got '{url.drivername}'; expected sqlite:///."
        )
    path = url.database
    if not path or path == ":memory:":
        raise UserError(
            "The database URL names no file; expected sqlite:///path or sqlite:////absolute/path."
        )
    return lambda: open_read_only(Path(path))


def _reason(error: Exception, url: URL) -> str:
    """First line of what the driver says, without the password."""
    text = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    line = text.splitlines()[0].rstrip(".")
    return line.replace(str(url.password), "***") if url.password else line
