"""The database tool on SQLite: its replies in the language `find`, and which files it takes."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from agent_people import ATTRIBUTES, PEOPLE, fenced, find, write_people
from hypothesis import given, settings
from hypothesis import strategies as st

from nanollama.dialogs.tools import DatabaseConfig, Limits, Reply, Tool, build_tool
from nanollama.errors import UserError
from nanollama.tokenizer import ByteTokenizer

OpenTool = Callable[..., Tool]


def test_every_value_of_every_person_is_found(open_tool: OpenTool) -> None:
    tool = open_tool()
    for index, attribute in enumerate(ATTRIBUTES, start=1):
        replies = tool.reply([find(person[0], attribute) for person in PEOPLE])
        assert replies == [Reply(person[index], ok=True) for person in PEOPLE]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (find("Nobody"), "unknown name"),
        (find("ann bell"), "unknown name"),
        (find(" Ann Bell"), "unknown name"),
        (find("Ann Bell' OR '1'='1"), "unknown name"),
        (find("?"), "unknown name"),
        (find("Ann Bell", "salary"), f"error: unknown attribute, use {', '.join(ATTRIBUTES)}"),
        (find("Ann Bell", "name"), f"error: unknown attribute, use {', '.join(ATTRIBUTES)}"),
        (find("Ann Bell", "Birth_Place"), f"error: unknown attribute, use {', '.join(ATTRIBUTES)}"),
        (
            fenced("FIND birth_place FOR Ann Bell\nFIND birth_date FOR Ann Bell"),
            "error: write FIND attribute FOR name",
        ),
        (fenced("find birth_place for Ann Bell"), "error: write FIND attribute FOR name"),
        (fenced("FIND birth_place FOR"), "error: write FIND attribute FOR name"),
        (fenced("SELECT birth_place FROM people"), "error: write FIND attribute FOR name"),
        ("FIND birth_place FOR Ann Bell", "error: no request, write it in a block fenced by ```"),
        (fenced(""), "error: no request, write it in a block fenced by ```"),
        ("", "error: no request, write it in a block fenced by ```"),
        (find("Ann\0Bell"), "error: message with a character that is no text"),
        (find("Ann\ud800"), "error: message with a character that is no text"),
        (find("Ann\rBell"), "error: write FIND attribute FOR name"),
        (find("A" * (1000 - len(find("")))), "unknown name"),
        (find("A" * (1001 - len(find("")))), "error: message longer than 1000 characters"),
    ],
)
def test_what_is_not_found_is_said_in_one_sentence(open_tool: OpenTool, message: str, text: str) -> None:
    assert open_tool().reply([message]) == [Reply(text, ok=False)]


def test_answer_is_the_text_of_the_replies(open_tool: OpenTool) -> None:
    tool = open_tool()
    assert tool.role == "database"
    assert tool.answer([find("Ann Bell"), "?"]) == [
        reply.text for reply in tool.reply([find("Ann Bell"), "?"])
    ]
    assert tool.answer([]) == []


def test_values_of_any_type_become_text(tmp_path: Path, open_tool: OpenTool) -> None:
    rows = [("Ann", None, b"\xffbytes", "x" * 256, "y" * 257), ("Bob", "<end>", "two\nlines", "", "é" * 129)]
    path = write_people(tmp_path / "people.sqlite", rows)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE people SET birth_date = CAST(x'ff41' AS TEXT) WHERE name = 'Bob'")
    tool = open_tool(path=path)
    assert tool.reply([find("Ann", attribute) for attribute in ATTRIBUTES]) == [
        Reply("no value", ok=False),
        Reply("�bytes", ok=True),
        Reply("x" * 256, ok=True),
        Reply("error: reply longer than 256 bytes", ok=False),
    ]
    assert tool.answer([find("Bob", attribute) for attribute in ATTRIBUTES]) == [
        "�A",
        "two\nlines",
        "",
        "error: reply longer than 256 bytes",
    ]


def test_errors_keep_the_byte_limit_too(open_tool: OpenTool) -> None:
    tool = open_tool(limits=Limits(max_reply_bytes=32))
    (text,) = tool.answer([find("Ann Bell", "salary")])
    assert text == f"error: unknown attribute, use {', '.join(ATTRIBUTES)}"[:32]


def test_no_reply_holds_a_special_token(tmp_path: Path, open_tool: OpenTool) -> None:
    path = write_people(tmp_path / "people.sqlite", [("Ann", "<end>", "<assistant>", "<|im_end|>", "")])
    tokenizer = ByteTokenizer(("user", "assistant", "database"))
    for text in open_tool(path=path).answer([find("Ann", attribute) for attribute in ATTRIBUTES]):
        assert not set(tokenizer.encode(text)) & set(tokenizer.special_ids.values())


names = st.one_of(
    st.sampled_from([person[0] for person in PEOPLE[:20]]),
    st.text(max_size=20),
    st.text(st.characters(), max_size=20).map(lambda text: text + "Ann Bell"),
)
messages = st.one_of(
    st.builds(find, names, st.sampled_from([*ATTRIBUTES, "salary", "x"])),
    st.text(st.characters(), max_size=80),
)


@settings(max_examples=200, deadline=None)
@given(batch=st.lists(messages, max_size=12))
def test_a_batch_gets_what_each_request_gets_alone(people_file: Path, batch: list[str]) -> None:
    with closing(build_tool(DatabaseConfig(table="people", path=people_file, attributes=ATTRIBUTES))) as tool:
        assert tool.reply(batch) == [tool.reply([message])[0] for message in batch]


def test_a_large_batch_takes_few_queries(
    people_file: Path, open_tool: OpenTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = []
    connect = sqlite3.connect

    def connect_and_listen(*args: object, **keys: object) -> sqlite3.Connection:
        connection = connect(*args, **keys)  # type: ignore[call-overload]
        connection.set_trace_callback(queries.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_listen)
    tool = open_tool()
    queries.clear()
    batch = [find(PEOPLE[index % len(PEOPLE)][0]) for index in range(5000)]
    assert all(reply.ok for reply in tool.reply(batch))
    assert len(queries) == 5  # 2003 different names, 500 a query


def test_steps_are_not_counted_for_a_batch_of_names(open_tool: OpenTool) -> None:
    tool = open_tool(limits=Limits(max_steps=1000))
    assert all(reply.ok for reply in tool.reply([find(person[0]) for person in PEOPLE]))


def test_a_loose_column_still_finds_names_to_the_letter_in_any_batch(
    tmp_path: Path, open_tool: OpenTool
) -> None:
    path = tmp_path / "loose.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT COLLATE NOCASE PRIMARY KEY, age INTEGER)")
        connection.execute("INSERT INTO people VALUES ('Ann', 7)")
    tool = open_tool(path=path, attributes=["age"])
    batch = [find("Ann", "age"), *(find(f"N{i}", "age") for i in range(600)), find("ann", "age")]
    replies = tool.reply(batch)
    assert replies[0] == Reply("7", ok=True)
    assert replies[-1] == tool.reply(batch[-1:])[0] == Reply("unknown name", ok=False)


def test_names_that_a_loose_column_takes_for_one_are_told_apart_in_any_batch(
    tmp_path: Path, open_tool: OpenTool
) -> None:
    path = tmp_path / "loose.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT COLLATE NOCASE, age INTEGER)")
        connection.execute("CREATE UNIQUE INDEX strict ON people (name COLLATE BINARY)")
        connection.execute("INSERT INTO people VALUES ('Ann', 7), ('ann', 8)")
    tool = open_tool(path=path, attributes=["age"])
    batch = [find("Ann", "age"), find("ann", "age"), find("ANN", "age")]
    expected = [Reply("7", ok=True), Reply("8", ok=True), Reply("unknown name", ok=False)]
    assert tool.reply(batch) == [tool.reply([one])[0] for one in batch] == expected


def test_any_thread_may_ask(open_tool: OpenTool) -> None:
    tool = open_tool()
    batch = [find(person[0]) for person in PEOPLE]
    expected = tool.reply(batch)
    replies: list[list[Reply]] = []
    threads = [threading.Thread(target=lambda: replies.append(tool.reply(batch))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [expected] * 8


def test_closed_tool_says_so_and_closes_twice(open_tool: OpenTool) -> None:
    tool = open_tool()
    tool.close()
    tool.close()
    with pytest.raises(ValueError, match="The database tool is closed"):
        tool.reply([find("Ann Bell")])


@pytest.mark.parametrize("name", ["plain.sqlite", "a b?mode=rwc&c#d%41.sqlite", "é'\".sqlite"])
def test_nothing_appears_beside_the_file_whatever_its_name(
    tmp_path: Path, open_tool: OpenTool, name: str
) -> None:
    path = write_people(tmp_path / name, PEOPLE[:3])
    before = path.read_bytes()
    assert open_tool(path=path).answer([find("Ann Bell")]) == ["Chile"]
    assert os.listdir(tmp_path) == [name]
    assert path.read_bytes() == before


def test_a_damaged_file_is_an_error_reply_and_a_warning(
    tmp_path: Path, open_tool: OpenTool, caplog: pytest.LogCaptureFixture
) -> None:
    people = [(f"N{n}", *PEOPLE[0][1:]) for n in range(2000)]
    path = write_people(tmp_path / "people.sqlite", people)
    tool = open_tool(path=path)
    with path.open("r+b") as file:
        file.seek(8192)  # behind the pages that say which tables there are
        file.write(b"\xff" * (path.stat().st_size - 8192))
    with caplog.at_level(logging.WARNING):
        assert tool.reply([find("N1234")]) == [Reply("error: the database failed", ok=False)]
    assert re.search(r"The database '.*people\.sqlite' failed: database disk image is malformed", caplog.text)


def test_file_may_be_replaced_or_removed_while_open(tmp_path: Path, open_tool: OpenTool) -> None:
    path = write_people(tmp_path / "people.sqlite", PEOPLE)
    tool = open_tool(path=path)
    os.replace(write_people(tmp_path / "new.sqlite", [("Ann Bell", "", "Peru", "", "")]), path)
    assert tool.answer([find("Ann Bell"), find(PEOPLE[-1][0])]) == ["Chile", "Chile"]
    path.unlink()
    assert tool.answer([find("Bob O'Hara")]) == ["Peru"]


def test_file_in_write_ahead_mode_is_read_without_its_side_files(tmp_path: Path, open_tool: OpenTool) -> None:
    path = write_people(tmp_path / "people.sqlite", PEOPLE[:3])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    assert open_tool(path=path).answer([find("Ann Bell")]) == ["Chile"]
    assert os.listdir(tmp_path) == ["people.sqlite"]


def test_a_slow_query_is_stopped(open_tool: OpenTool, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = open_tool()
    ticks = iter(range(10_000))
    monkeypatch.setattr("time.thread_time", lambda: float(next(ticks)))
    batch = [find(person[0]) for person in PEOPLE[:400]]  # enough steps for the clock to be looked at
    assert set(tool.answer(batch)) == {"error: the query takes too long, ask for one name"}


def make_file(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ([], "has no table 'people'; it has no tables"),
        (["CREATE TABLE b (x)", "CREATE TABLE a (x)"], "has no table 'people'; its tables are a, b"),
        (
            ["CREATE TABLE a (name PRIMARY KEY, age)", "CREATE VIEW people AS SELECT * FROM a"],
            "its tables are a",
        ),
        (["CREATE TABLE people (name PRIMARY KEY, Age)"], "has no column 'age'; it has name, Age"),
        (["CREATE TABLE people (age, size)"], "has no column 'name'; it has age, size"),
        (
            ["CREATE TABLE people (name, age)"],
            "has no unique index; run CREATE UNIQUE INDEX by_name ON people .name. ",
        ),
        (["CREATE TABLE people (name, age, UNIQUE (name, age))"], "has no unique index"),
        (["CREATE TABLE people (name, age)", "CREATE INDEX i ON people (name)"], "has no unique index"),
        (
            ["CREATE TABLE people (name, age)", "CREATE UNIQUE INDEX i ON people (name) WHERE age > 3"],
            "has no unique index",
        ),
    ],
)
def test_unfit_database_is_refused(tmp_path: Path, statements: list[str], message: str) -> None:
    path = make_file(tmp_path / "people.sqlite", *statements)
    with pytest.raises(UserError, match=f"people.sqlite.*{message}"):
        build_tool(DatabaseConfig(table="people", path=path, attributes=["age"]))


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE people (age, name UNIQUE)"],
        ["CREATE TABLE people (name, age)", "CREATE UNIQUE INDEX by_name ON people (name)"],
        ["CREATE TABLE people (name, age)", 'CREATE UNIQUE INDEX "odd ] name" ON people (name)'],
    ],
)
def test_any_unique_index_will_do(tmp_path: Path, open_tool: OpenTool, statements: list[str]) -> None:
    path = make_file(tmp_path / "p.sqlite", *statements, "INSERT INTO people (name, age) VALUES ('Ann', 7)")
    assert open_tool(path=path, attributes=["age"]).answer([find("Ann", "age")]) == ["7"]


def test_missing_file_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no database file '.*none\.sqlite'; create it first"):
        build_tool(DatabaseConfig(table="people", path=tmp_path / "none.sqlite", attributes=["age"]))
    with pytest.raises(UserError, match="There is no database file"):
        build_tool(DatabaseConfig(table="people", path=tmp_path, attributes=["age"]))
    assert not os.listdir(tmp_path)


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,age\n" * 100)
    with pytest.raises(
        UserError, match=r"'.*people\.csv' cannot be read as an SQLite database: file is not a database"
    ):
        build_tool(DatabaseConfig(table="people", path=path, attributes=["age"]))


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_unfinished_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write_people(tmp_path / "people.sqlite", PEOPLE[:3])
    Path(f"{path}{suffix}").write_bytes(b"something")
    with pytest.raises(UserError, match=f"was not closed .'people.sqlite{suffix}' exists.: end the program"):
        build_tool(DatabaseConfig(table="people", path=path, attributes=ATTRIBUTES))
