"""The request language `sql`: what passes, what is refused, and each fence of the sandbox by itself."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from agent_people import ATTRIBUTES, fenced

from nanollama.dialogs.tools import DatabaseConfig, Limits, Reply, Tool
from nanollama.dialogs.tools.database import open_read_only
from nanollama.dialogs.tools.replies import RequestError
from nanollama.dialogs.tools.sql import Meter, check_select, fence_in, run_statement

OpenTool = Callable[..., Tool]

REFUSED = (
    r"^(not authorized|authorization denied|access to .* is prohibited|no such function|vtable constructor)"
)


@pytest.mark.parametrize(
    ("select", "text"),
    [
        ("SELECT birth_place FROM people WHERE name = 'Ann Bell';", "Chile"),
        ("select Birth_Place\nfrom PEOPLE\nwhere Name == 'Ann Bell'", "Chile"),
        ("SELECT occupation FROM people WHERE name = 'Bob O''Hara'", "farm, garden and forest hand"),
        ("SELECT occupation FROM people WHERE name = 'Čeněk Đỗ'", "知识"),
        ("SELECT people.birth_place FROM people WHERE people.name IN ('Ann Bell')", "Chile"),
        ("SELECT birth_date, birth_place FROM people WHERE name = 'Ann Bell'", "11/03/1990 | Chile"),
        (
            "SELECT birth_place FROM people WHERE name IN ('Ann Bell', 'Bob O''Hara') ORDER BY 1 DESC",
            "Peru\nChile",
        ),
        ("SELECT DISTINCT birth_place FROM people WHERE birth_place < 'D' LIMIT 3", "Chile"),
        (
            "SELECT name FROM people WHERE name BETWEEN 'Ann' AND 'Ann Z' AND NOT occupation IS NULL LIMIT 1",
            "Ann Bell",
        ),
        (
            "SELECT name FROM people WHERE (birth_place <> 'Chile') OR name >= 'Č' LIMIT 2 OFFSET 1",
            "Čeněk Đỗ",
        ),
    ],
)
def test_plain_selects_are_answered(open_tool: OpenTool, select: str, text: str) -> None:
    assert open_tool(language="sql").reply([fenced(select)]) == [Reply(text, ok=True)]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ("SELECT birth_place FROM people WHERE name = 'Nobody'", "no rows"),
        ("SELECT NULL FROM people LIMIT 1", "no value"),
        ("SELECT name FROM people", "error: more than 10 rows, ask for fewer"),
        ('SELECT birth_place FROM people WHERE name = "Ann Bell"', 'error: unexpected "'),
        ("SELECT birth_place FROM people WHERE name = 'Ann", "error: unexpected '"),
        ("SELECT salary FROM people WHERE name = 'Ann Bell'", "error: unknown word salary"),
        ("SELECT * FROM people WHERE name = 'Ann Bell'", "error: access to people.salary is prohibited"),
        ("SELECT password FROM passwords", "error: unknown word password"),
        ("SELECT name FROM sqlite_master", "error: unknown word sqlite_master"),
        ("SELECT count(*) FROM people", "error: unknown word count"),
        ("SELECT name || name FROM people", "error: unexpected |"),
        ("SELECT name FROM people -- all", "error: unexpected -"),
        ("SELECT name /* all */ FROM people", "error: unexpected /"),
        ("SELECT name FROM people WHERE name = ?", "error: unexpected ?"),
        ("SELECT name FROM people; DELETE FROM people", "error: unknown word DELETE"),
        ("SELECT name FROM people; SELECT name FROM people", "error: write one SELECT"),
        ("SELECT name FROM (SELECT name FROM people)", "error: write one SELECT"),
        ("WHERE SELECT", "error: write one SELECT"),
        ("INSERT INTO people VALUES ('x')", "error: unknown word INSERT"),
        ("PRAGMA writable_schema = 1", "error: unknown word PRAGMA"),
        ("FIND birth_place FOR Ann Bell", "error: unknown word FIND"),
        ("'Ann Bell'", "error: write one SELECT"),
        (";", "error: write one SELECT"),
        ("SELECT FROM people", 'error: near "FROM": syntax error'),
        ("SELECT name, birth_date", "error: no such column: name"),
        ("SELECT name FROM name", "error: no such table: name"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(open_tool: OpenTool, request_: str, text: str) -> None:
    assert open_tool(language="sql").reply([fenced(request_)]) == [Reply(text, ok=False)]


def test_steps_are_limited_and_rows_within_them_are_found(open_tool: OpenTool) -> None:
    look_up = fenced("SELECT birth_place FROM people WHERE name = 'Ann Bell'")
    scan = fenced("SELECT name FROM people WHERE occupation = 'baker'")
    assert open_tool(language="sql").answer([look_up, scan]) == ["Chile", "Ann Bell"]
    tight = open_tool(language="sql", limits=Limits(max_steps=1000))
    too_long = "error: the query takes too long, ask for one name"
    assert tight.answer([look_up, scan, look_up]) == ["Chile", too_long, "Chile"]


def test_reply_does_not_depend_on_how_busy_the_machine_is(
    open_tool: OpenTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = open_tool(language="sql")
    monkeypatch.setattr("time.thread_time", iter([0.0, *[0.4] * 1000]).__next__)
    assert tool.answer([fenced("SELECT name FROM people WHERE occupation = 'baker'")]) == ["Ann Bell"]


@pytest.fixture
def fenced_in(people_file: Path) -> Iterator[sqlite3.Connection]:
    config = DatabaseConfig(table="people", path=people_file, attributes=ATTRIBUTES, language="sql")
    with closing(open_read_only(people_file)) as connection:
        fence_in(connection, config)
        yield connection


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO people (name) VALUES ('x')",
        "UPDATE people SET name = 'x'",
        "DELETE FROM people",
        "DROP TABLE people",
        "CREATE TABLE t (x)",
        "CREATE TEMP TABLE t (x)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE t USING fts5(x)",
        "ALTER TABLE people RENAME TO t",
        "ATTACH ':memory:' AS other",
        "ATTACH 'other.sqlite' AS other",
        "DETACH main",
        "VACUUM INTO 'copy.sqlite'",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "SAVEPOINT s",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = WAL",
        "PRAGMA temp_store_directory = '.'",
        "SELECT salary FROM people",
        "SELECT * FROM people",
        "SELECT password FROM passwords",
        "SELECT 1 FROM passwords",
        "SELECT sql FROM sqlite_master",
        "SELECT 1 FROM sqlite_master",
        "SELECT * FROM pragma_table_info('passwords')",
        "SELECT * FROM dbstat",
        "SELECT * FROM sqlite_stmt",
        "SELECT * FROM json_each('[1]')",
        "SELECT load_extension('x')",
        "SELECT writefile('x', 'y')",
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(1000000000)",
        "SELECT printf('%.*c', 1000000000, 'x')",
        "SELECT group_concat(name) FROM people",
        "SELECT name LIKE '%' FROM people",
        "SELECT '{}' -> 'x'",
        "SELECT random()",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n",
    ],
)
def test_authorizer_alone_refuses_all_but_reading_the_columns(
    fenced_in: sqlite3.Connection,
    people_file: Path,
    statement: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = people_file.read_bytes()
    with pytest.raises(sqlite3.Error, match=REFUSED):
        fenced_in.execute(statement).fetchall()
    assert people_file.read_bytes() == before
    assert not any(tmp_path.iterdir())
    assert [entry.name for entry in people_file.parent.iterdir()] == [people_file.name]


def test_even_without_authorizer_the_file_is_read_only(people_file: Path) -> None:
    with (
        closing(open_read_only(people_file)) as connection,
        pytest.raises(sqlite3.Error, match="readonly database"),
    ):
        connection.execute("DELETE FROM people")


def test_meter_alone_stops_an_endless_statement(fenced_in: sqlite3.Connection) -> None:
    meter = Meter(fenced_in, max_seconds=0.05)
    never = "(a.name > b.name) + (b.name > c.name) > 2"
    endless = f"SELECT 1 FROM people a, people b, people c WHERE {never}"
    for max_steps in (10_000, math.inf):
        with pytest.raises(RequestError, match="the query takes too long"):
            run_statement(fenced_in, meter, endless, max_steps=max_steps, max_rows=1)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="sqlite3 takes no limits before Python 3.11")
def test_limits_alone_stop_growing_strings(fenced_in: sqlite3.Connection) -> None:
    doubled = "name AS a FROM people"
    for _ in range(10):
        doubled = f"a || a AS a FROM (SELECT {doubled})"
    with pytest.raises(sqlite3.Error, match="string or blob too big"):
        fenced_in.execute(f"SELECT {doubled}").fetchall()


def test_names_of_the_config_are_known_in_any_case() -> None:
    config = DatabaseConfig(path="x", attributes=["Age"], table="Staff", key="Id", language="sql")
    check_select("select AGE from staff where iD = 'x'", config)
    with pytest.raises(RequestError, match="unknown word people"):
        check_select("SELECT age FROM people", config)
