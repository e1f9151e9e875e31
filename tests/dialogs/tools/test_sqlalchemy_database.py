"""The database tool on SQLAlchemy URLs that need no server."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from agent_people import ATTRIBUTES, PEOPLE, find, write_people
from hostile_requests import HostileRequests

from nanollama.dialogs.tools import DatabaseConfig, Reply, Tool, build_tool
from nanollama.dialogs.tools.config import Limits
from nanollama.dialogs.tools.replies import TOO_SLOW, Row
from nanollama.dialogs.tools.sqlalchemy_database import N_ALIKE, SqlAlchemyDatabaseTool, _reason
from nanollama.errors import MissingExtraError, UserError

OpenTool = Callable[..., Tool]


def test_replies_are_those_of_the_tool_on_sqlite(open_tool: OpenTool, people_file: Path) -> None:
    requests = HostileRequests(random.Random(0), [person[0] for person in PEOPLE], "find")
    known = (find(person[0], attribute) for person in PEOPLE for attribute in ATTRIBUTES)
    batch = [*known, *islice(requests, 1000)]
    expected = open_tool().reply(batch)
    tool = open_tool(url=f"sqlite:///{people_file}")
    assert tool.role == "database"
    assert tool.reply(batch) == expected
    assert [tool.reply([message])[0] for message in batch[-200:]] == expected[-200:]


def test_twins_are_told(tmp_path: Path, open_tool: OpenTool) -> None:
    path = tmp_path / "twins.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT, age INTEGER)")
        connection.execute("INSERT INTO people VALUES ('Ann', 7), ('Bob', 8), ('Ann', 9)")
    tool = open_tool(url=f"sqlite:///{path}", attributes=["age"])
    assert tool.answer([find("Ann", "age"), find("Bob", "age")]) == [
        "error: several rows have this name",
        "8",
    ]


def test_a_name_on_many_rows_is_told_and_costs_the_others_nothing(
    tmp_path: Path, open_tool: OpenTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT, age INTEGER)")
        connection.executemany("INSERT INTO people VALUES (?, 7)", [("Ann",)] * 5000 + [("Bea",)])
    tool = open_tool(url=f"sqlite:///{path}", attributes=["age"])
    n_rows: list[int] = []
    select = SqlAlchemyDatabaseTool._select

    def counted(self: SqlAlchemyDatabaseTool, *arguments: Any) -> list[Row]:
        rows = select(self, *arguments)
        n_rows.append(len(rows))
        return rows

    monkeypatch.setattr(SqlAlchemyDatabaseTool, "_select", counted)
    batch = [find("Ann", "age"), find("Bea", "age"), find("Cid", "age")]
    replies = tool.reply(batch)
    assert replies == [tool.reply([one])[0] for one in batch]
    assert [reply.ok for reply in replies] == [False, True, False]
    assert "several rows have this name" in replies[0].text and replies[1].text == "7"
    assert max(n_rows) < 1010


def test_names_that_a_loose_column_takes_for_one_are_told_apart_beside_a_name_on_many_rows(
    tmp_path: Path, open_tool: OpenTool
) -> None:
    path = tmp_path / "loose.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT COLLATE NOCASE, age INTEGER)")
        rows = [("Ann", 7), ("ann", 8), *[("Bea", 9)] * (N_ALIKE + 4)]
        connection.executemany("INSERT INTO people VALUES (?, ?)", rows)
    tool = open_tool(url=f"sqlite:///{path}", attributes=["age"])
    batch = [find("Ann", "age"), find("ann", "age"), find("Bea", "age")]
    assert tool.answer(batch) == ["7", "8", "error: several rows have this name"]


def test_an_sqlite_file_by_url_is_read_for_no_longer_than_the_limit(
    tmp_path: Path, open_tool: OpenTool
) -> None:
    path = tmp_path / "long.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT, age INTEGER)")
        rows = ((f"N{n}", n) for n in range(300_000))
        connection.executemany("INSERT INTO people VALUES (?, ?)", rows)
    limits = Limits(max_seconds=0.001)
    tool = open_tool(url=f"sqlite:///{path}", attributes=["age"], limits=limits)
    (reply,) = tool.reply([find("nobody", "age")])
    assert not reply.ok and reply.text == f"error: {TOO_SLOW}"
    patient = open_tool(url=f"sqlite:///{path}", attributes=["age"])
    assert patient.reply([find("N299999", "age")])[0].text == "299999"


def test_closed_tool_says_so_and_closes_twice(open_tool: OpenTool, people_file: Path) -> None:
    tool = open_tool(url=f"sqlite:///{people_file}")
    tool.close()
    tool.close()
    with pytest.raises(ValueError, match="The database tool is closed"):
        tool.reply([])


def test_sqlite_file_is_neither_made_nor_changed(tmp_path: Path, open_tool: OpenTool) -> None:
    with pytest.raises(UserError, match=r"There is no database file '.*none\.sqlite'"):
        open_tool(url=f"sqlite:///{tmp_path}/none.sqlite")
    path = write_people(tmp_path / "people.sqlite", PEOPLE[:3])
    before = path.read_bytes()
    assert open_tool(url=f"sqlite:///{path}").answer([find("Ann Bell")]) == ["Chile"]
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["people.sqlite"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("people.sqlite", "The database URL is not understood; expected dialect"),
        ("postgresql+psycopg://u@h:port/db", "The database URL is not understood; expected dialect"),
        ("sqlite+aiosqlite:////x", r"own driver, got 'sqlite\+aiosqlite'; expected sqlite:///"),
        ("sqlite+pysqlcipher:////x", r"own driver, got 'sqlite\+pysqlcipher'; expected sqlite:///"),
        ("sqlite://", "The database URL names no file; expected sqlite:///path"),
        ("sqlite:///:memory:", "The database URL names no file"),
        ("oracel://localhost/people", "SQLAlchemy knows no database or driver called 'oracel'"),
        ("postgresql+psycopg3://localhost/people", r"no database or driver called 'postgresql\+psycopg3'"),
        ("mysql+pymysql://localhost/people", r"The driver of 'mysql\+pymysql' is missing .*: install it, or"),
        ("postgresql+psycopg://me:$NOT_SET@localhost/people", "takes its password from 'NOT_SET': set that"),
    ],
)
def test_wrong_url_is_refused_in_one_sentence(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UserError, match=message):
        build_tool(DatabaseConfig(table="people", url=url, attributes=["age"]))


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"'psycopg' is not installed: run `.*'nanollama\[sql\]'`"):
        build_tool(
            DatabaseConfig(table="people", url="postgresql+psycopg://localhost/people", attributes=["age"])
        )


def test_missing_sqlalchemy_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from nanollama.dialogs.tools import DatabaseConfig, build_tool\n"
        "build_tool(DatabaseConfig(table='t', url='sqlite:///x', attributes=['age']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "The package 'sqlalchemy' is not installed: run `pip install 'nanollama[sql]'`." in result.stderr


def test_unreachable_server_is_refused_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD_OF_TEST", "hunter2/@:%")
    url = f"postgresql+psycopg://reader:${{PASSWORD_OF_TEST}}@/people?host={tmp_path}"
    with pytest.raises(UserError, match=r"reader:\*\*\*@.*' cannot be used: connection .* failed") as caught:
        build_tool(DatabaseConfig(table="people", url=url, attributes=["age"]))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lost_sqlite_file_is_an_error_reply(
    tmp_path: Path, open_tool: OpenTool, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_people(tmp_path / "people.sqlite", PEOPLE[:3])
    tool: Any = open_tool(url=f"sqlite:///{path}")
    tool._engine.dispose()  # as if the pool needed a new connection
    path.unlink()
    with caplog.at_level(logging.WARNING):
        assert tool.reply([find("Ann Bell")]) == [Reply("error: the database failed", ok=False)]
    assert "There is no database file" in caplog.text


def test_reason_is_one_line_without_the_password() -> None:
    error = sqlalchemy.exc.OperationalError("SELECT", {}, Exception("no hunter2 here.\nDETAIL: hunter2"))
    url = sqlalchemy.make_url("mysql://me@localhost/people")
    assert _reason(error, url) == "no hunter2 here"
    assert _reason(error, url.set(password="hunter2")) == "no *** here"
