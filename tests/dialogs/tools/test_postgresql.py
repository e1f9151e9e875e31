"""The database tool on a real PostgreSQL server, where one is installed."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
from agent_people import ATTRIBUTES, PEOPLE, find
from hostile_requests import HostileRequests
from postgresql_server import SUPERUSER, NoServer, Server, running_server

from nanollama.dialogs.tools import DatabaseConfig, Limits, Tool, build_tool
from nanollama.errors import UserError

pytestmark = pytest.mark.slow  # making a server takes some seconds

OpenTool = Callable[..., Tool]
PASSWORD = "hunter2/@%"


SETUP = (
    "CREATE TABLE log (name TEXT)",
    "CREATE FUNCTION note(who TEXT) RETURNS TEXT LANGUAGE sql AS "
    "$$ INSERT INTO log VALUES (who) RETURNING name $$",
    "CREATE VIEW noted AS SELECT name, note(name) AS age FROM people",
    "CREATE VIEW slow AS SELECT name, pg_sleep(20)::text AS age FROM people",
    "CREATE TABLE numbers (name INTEGER, age INTEGER)",
    "CREATE TABLE hidden (name TEXT, age TEXT)",
    "CREATE TABLE twins (name TEXT, age INTEGER, born DATE, height NUMERIC, photo BYTEA, alive BOOLEAN)",
    "INSERT INTO twins (name, age) VALUES ('Ann', 1), ('Ann', 2)",
    "INSERT INTO twins VALUES ('Bob', 3, '1990-03-11', 1.80, 'x', false)",
    "CREATE TABLE old (name TEXT, born DATE, job TEXT)",
    "INSERT INTO old VALUES ('Julius', '0100-07-12 BC', 'consul'), ('Bob', '1990-01-02', 'clerk')",
    "CREATE DOMAIN short AS CHAR(9)",
    "CREATE TABLE padded (name CHAR(20), code short, age INTEGER)",
    f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
    "GRANT SELECT ON people, twins, numbers, old, padded TO reader",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    try:
        with running_server() as server:
            server.execute("CREATE DATABASE people", database="postgres")
            server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0", database="postgres")
            write_people(server, "people", PEOPLE)
            write_people(server, "latin", PEOPLE[:2])
            server.execute(*SETUP)
            yield server
    except NoServer as reason:
        pytest.skip(str(reason))


def write_people(server: Server, database: str, people: Sequence[tuple[str, ...]]) -> None:
    columns = ("name", *ATTRIBUTES)
    types = ", ".join(f"{column} TEXT" for column in columns)
    places = ", ".join(f":{column}" for column in columns)
    rows = [dict(zip(columns, person, strict=True)) for person in people]
    server.execute(f"CREATE TABLE people ({types}, PRIMARY KEY (name))", database=database)
    server.execute(f"INSERT INTO people VALUES ({places})", database=database, rows=rows)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_TEST_PASSWORD", PASSWORD)


def test_replies_are_those_of_the_tool_on_sqlite(server: Server, open_tool: OpenTool) -> None:
    requests = HostileRequests(random.Random(0), [person[0] for person in PEOPLE], "find")
    known = (find(person[0], attribute) for person in PEOPLE for attribute in ATTRIBUTES)
    batch = [*known, *islice(requests, 1000)]
    expected = open_tool().reply(batch)
    tool = open_tool(url=server.url())
    assert tool.role == "database"
    assert tool.reply(batch) == expected
    assert [tool.reply([message])[0] for message in batch[-200:]] == expected[-200:]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"table": "persons"},
            "no table 'persons'; its tables are hidden, log, noted, numbers, old, padded, people, slow",
        ),
        ({"attributes": ["age"]}, "has no column 'age'; it has name, birth_date, birth_place"),
        ({"table": "hidden", "attributes": ["age"]}, "permission denied for table hidden"),
        ({"table": "numbers", "attributes": ["age"]}, "operator does not exist: integer = "),
        (
            {"table": "padded", "attributes": ["age"]},
            r"column 'name' of 'padded' in .* is of type CHAR, which pads names with blanks: make it TEXT",
        ),
        (
            {"table": "padded", "key": "code", "attributes": ["age"]},
            r"'code' .* is of type CHAR, which",
        ),
    ],
)
def test_unfit_postgresql_database_is_refused(server: Server, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_tool(
            DatabaseConfig(**{"url": server.url(), "table": "people", "attributes": ATTRIBUTES, **keys})
        )
    assert PASSWORD not in str(caught.value)


def test_wrong_password_is_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_TEST_PASSWORD", "wrong-horse")
    with pytest.raises(UserError, match=r"cannot be used: .*password authentication failed") as caught:
        build_tool(DatabaseConfig(table="people", url=server.url(), attributes=ATTRIBUTES))
    assert "wrong-horse" not in str(caught.value)


def test_values_of_any_type_become_text_and_twins_are_told(server: Server, open_tool: OpenTool) -> None:
    tool = open_tool(url=server.url(), table="twins", attributes=["age", "born", "height", "photo", "alive"])
    values = {"age": "3", "born": "1990-03-11", "height": "1.80", "photo": "x", "alive": "False"}
    assert tool.answer([find("Bob", column) for column in values]) == list(values.values())
    assert tool.answer([find("Ann", "age")]) == ["error: several rows have this name"]


def test_even_a_superuser_cannot_write(
    server: Server, open_tool: OpenTool, caplog: pytest.LogCaptureFixture
) -> None:
    tool = open_tool(url=server.url(user=SUPERUSER), table="noted", attributes=["age"])
    with caplog.at_level(logging.WARNING):
        assert tool.answer([find("Ann Bell", "age")]) == ["error: the database failed"]
    assert "cannot execute INSERT in a read-only transaction" in caplog.text
    assert server.count("log") == 0


def test_slow_server_is_stopped(
    server: Server, open_tool: OpenTool, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(max_seconds=0.05)
    tool = open_tool(url=server.url(user=SUPERUSER), table="slow", attributes=["age"], limits=limits)
    with caplog.at_level(logging.WARNING):
        assert tool.answer([find("Ann Bell", "age")]) == ["error: the query takes too long, ask for one name"]
    assert "canceling statement due to statement timeout" in caplog.text


@pytest.mark.parametrize("client", ["", "&client_encoding=utf8"])  # the client notices, or the server does
def test_name_the_encoding_cannot_express_spoils_no_other(
    server: Server, open_tool: OpenTool, client: str
) -> None:
    tool = open_tool(url=server.url("latin", SUPERUSER) + client)
    batch = [find("Ann Bell"), find("漢"), find("Bob O'Hara")]
    assert tool.answer(batch) == ["Chile", "unknown name", "Peru"]


def test_a_row_that_cannot_be_read_is_no_unknown_name_and_spoils_no_other(
    server: Server, open_tool: OpenTool, caplog: pytest.LogCaptureFixture
) -> None:
    tool = open_tool(url=server.url(), table="old", attributes=["born", "job"])
    batch = [find("Julius", "job"), find("Bob", "job"), find("Zed", "job")]
    with caplog.at_level(logging.WARNING):
        assert tool.answer(batch) == ["error: the database failed", "clerk", "unknown name"]
    assert "The database failed: date too small (before year 1)" in caplog.text


def test_outage_is_an_error_reply_and_heals(
    server: Server, open_tool: OpenTool, caplog: pytest.LogCaptureFixture
) -> None:
    tool = open_tool(url=server.url())
    end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'people'"
    server.execute(end_sessions, database="postgres")
    assert tool.answer([find("Ann Bell")]) == ["Chile"]
    server.execute("ALTER DATABASE people ALLOW_CONNECTIONS false", end_sessions, database="postgres")
    try:
        with caplog.at_level(logging.WARNING):
            assert tool.answer([find("Ann Bell"), "?"]) == [
                "error: the database failed",
                "error: no request, write it in a block fenced by ```",
            ]
    finally:
        server.execute("ALTER DATABASE people ALLOW_CONNECTIONS true", database="postgres")
    assert "is not currently accepting connections" in caplog.text
    assert PASSWORD not in caplog.text
    assert tool.answer([find("Ann Bell")]) == ["Chile"]
