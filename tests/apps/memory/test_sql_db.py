"""The SQLite database: both populations, whole or not there, read-only to queries, deleted only when told."""

from __future__ import annotations

import io
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from apps.memory.dataset import sql_db
from apps.memory.dataset.files import replacing
from apps.memory.dataset.paths import database_path
from apps.memory.dataset.people import N_PEOPLE, POPULATIONS, people
from nanollama.errors import UserError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def command(tmp_path, capsys):
    """Run the command on a data root in a temporary folder: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = sql_db.main([*arguments, "--root", str(tmp_path)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def path(tmp_path):
    """A database of 20 people."""
    sql_db.create_database(tmp_path, 10)
    return database_path(tmp_path)


def execute(path, statement, values=()):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def test_create_holds_both_populations(command, tmp_path):
    code, output, errors = command("create", "--num", "10")
    path = database_path(tmp_path)
    assert (code, errors) == (0, "")
    assert re.fullmatch(
        rf"wrote {re.escape(str(path))}: 20 people \(the first 10 that models learn about, "
        r"and as many of new names\), [\d.]+ kB, \d\.\d s\n",
        output,
    )
    expected = sorted(person[1:] for population in POPULATIONS for person in people(0, 10, population))
    statement = "SELECT name, birth_date, birth_place, current_address, occupation FROM people ORDER BY name"
    assert execute(path, statement) == expected
    assert [entry.name for entry in path.parent.iterdir()] == ["people.sqlite"]


def test_everybody_is_there_and_found_by_key(tmp_path, capsys):
    said = sql_db.create_database(tmp_path)
    assert "339,112 people (all 169,556 that models learn about, and as many of new names), " in said
    path = database_path(tmp_path)
    assert execute(path, "SELECT count(*) FROM people") == [(2 * N_PEOPLE,)]
    last = people(N_PEOPLE - 1, N_PEOPLE, "new")[0]
    statement = "SELECT occupation FROM people WHERE name = ?"
    assert execute(path, statement, [last.name]) == [(last.occupation,)]
    assert "PRIMARY KEY" in execute(path, f"EXPLAIN QUERY PLAN {statement}", ["x"])[0][3]
    assert sql_db.ensure_database(tmp_path) == path
    assert sql_db.main(["create", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("; --num N takes fewer\n")


def test_names_are_unique_in_the_schema(path):
    row = execute(path, "SELECT * FROM people LIMIT 1")[0]
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "INSERT INTO people VALUES (?, ?, ?, ?, ?)", row)


def test_a_larger_database_is_kept_and_a_smaller_one_replaced(command, path):
    content = path.read_bytes()
    assert command("create", "--num", "10")[1].startswith("kept")
    assert "it holds 20 people (the first 10 that models" in command("create", "--num", "3")[1]
    assert path.read_bytes() == content
    assert command("create", "--num", "12")[1].startswith("wrote")
    assert execute(path, "SELECT count(*) FROM people") == [(24,)]
    assert command("create", "--num", "3", "--overwrite")[1].startswith("wrote")
    assert execute(path, "SELECT count(*) FROM people") == [(6,)]


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE people SET occupation = 'king' WHERE name = 'Bertha Malone'",
        "DELETE FROM people WHERE name = 'Bertha Malone'",
        "ALTER TABLE people RENAME COLUMN occupation TO work",
        "DROP TABLE people",
    ],
)
def test_an_edited_database_is_refused(command, path, edit):
    execute(path, edit)
    content = path.read_bytes()
    for n_people in ("3", "10", "12"):
        code, _, errors = command("create", "--num", n_people)
        assert code == 2
        assert re.fullmatch(
            r".*people\.sqlite holds something else than the people .* --overwrite.*\.\n", errors
        )
    assert path.read_bytes() == content
    assert command("create", "--num", "10", "--overwrite")[0] == 0
    assert command("query", "--name", "Bertha Malone")[0] == 0


def test_a_file_that_is_no_database_is_refused(command, path):
    path.write_text("my notes, which are rather long so that SQLite looks at them" * 10)
    assert command("create", "--num", "3")[0] == 2
    code, _, errors = command("query", "SELECT * FROM people")
    assert code == 2
    assert "SQLite refuses the query: file is not a database" in errors
    assert path.read_text().startswith("my notes")


def test_what_takes_long_is_said_before(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sql_db, "_N_SLOW", 3)
    path = sql_db.ensure_database(tmp_path, 3)
    assert capsys.readouterr().out.splitlines()[0].startswith(f"making {path} once: 6 people")


def test_ensure_makes_and_extends(tmp_path, capsys):
    path = sql_db.ensure_database(tmp_path, 3)
    assert capsys.readouterr().out.startswith("wrote")
    sql_db.ensure_database(tmp_path, 2)
    assert capsys.readouterr().out == ""
    assert execute(path, "SELECT count(*) FROM people") == [(6,)]
    sql_db.ensure_database(tmp_path, 4)
    assert capsys.readouterr().out.startswith("wrote")
    assert execute(path, "SELECT count(*) FROM people") == [(8,)]


def test_the_command_that_is_advised_is_about_the_same_root(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "my data"
    path = sql_db.ensure_database(root, 3)
    execute(path, "DELETE FROM people WHERE name = 'Bertha Malone'")
    with pytest.raises(UserError) as refused:
        sql_db.ensure_database(root, 4)
    _, command, _ = str(refused.value).split("`")
    assert sql_db.main([*shlex.split(command)[3:], "--num", "4"]) == 0
    assert execute(path, "SELECT count(*) FROM people") == [(8,)]
    assert not (tmp_path / "data").exists()


def test_ensure_refuses_an_edited_database(path, tmp_path):
    execute(path, "DELETE FROM people")
    execute(path, "INSERT INTO people VALUES ('Ann Bell', '', '', '', '')")
    with pytest.raises(UserError, match="holds something else than the people of this study"):
        sql_db.ensure_database(tmp_path, 10)


def test_query_prints_a_table(command, path):
    statement = "SELECT name, occupation FROM people WHERE occupation LIKE 'fi%' ORDER BY name"
    code, output, errors = command("query", statement)
    assert (code, errors) == (0, "")
    assert output == (
        "name           occupation\n"
        "-------------  -----------\n"
        "Chandra Yang   firefighter\n"
        "Desmond Elder  fisherman\n"
    )


def test_query_by_name(command, path):
    code, output, _ = command("query", "--name", "Bertha Malone")
    assert code == 0
    facts = ["Bertha Malone", "1997-08-24", "Brazil", "Malaga", "bus driver"]
    assert re.split(" {2,}", output.splitlines()[2]) == facts
    code, _, errors = command("query", "--name", "Bertha O'Malone")
    assert code == 2
    assert re.fullmatch(r".*people\.sqlite has nobody named 'Bertha O'Malone'\.\n", errors)


def test_query_shows_the_first_rows(command, path):
    statement = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT i, NULL FROM n"
    )
    lines = command("query", statement.format(1000))[1].splitlines()
    assert len(lines) == 53
    assert lines[-2].split() == ["50", "NULL"]
    assert lines[-1] == "... (the first 50 rows)"
    assert command("query", statement.format(50))[1].splitlines()[-1].split() == ["50", "NULL"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT age FROM people", "no such column: age"),
        ("SELEC name", 'near "SELEC": syntax error'),
        ("DELETE FROM people", "not authorized"),
        ("ATTACH 'other.sqlite' AS other", "not authorized"),
        ("PRAGMA journal_mode = WAL", "not authorized"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT '\0'", "null character"),
        ("SELECT '\ud800'", "surrogates not allowed"),
        ("-- nothing", "The query asks for nothing"),
        ("", "The query asks for nothing"),
    ],
)
def test_queries_only_read(command, path, tmp_path, monkeypatch, statement, message):
    monkeypatch.chdir(tmp_path)
    content = path.read_bytes()
    code, output, errors = command("query", statement)
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.endswith(
        "give one SELECT from people(name, birth_date, birth_place, current_address, occupation).\n"
    )
    assert path.read_bytes() == content
    assert {entry.name for entry in tmp_path.rglob("*")} == {"memory", "people.sqlite"}


def test_ctrl_c_ends_a_query_without_end(path, tmp_path):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    program = (
        "import signal, sys; from apps.memory.dataset.sql_db import main;"
        "signal.signal(signal.SIGALRM, signal.default_int_handler); signal.alarm(1); sys.exit(main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "query", endless, "--root", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_the_connection_of_queries_cannot_write(path):
    with (
        closing(sql_db._connect_read_only(path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM people")


@pytest.mark.parametrize("arguments", [[], ["SELECT 1", "--name", "Ann Bell"]])
def test_query_wants_one_question(command, arguments):
    code, _, errors = command("query", *arguments)
    assert code == 2
    assert errors == "Give either a SELECT statement or --name with the name of a person.\n"


@pytest.mark.parametrize("arguments", [["query", "SELECT 1"], ["delete", "--yes"]])
def test_without_a_database(command, arguments):
    code, _, errors = command(*arguments)
    assert code == 2
    assert re.fullmatch(
        r"There is no database .*people\.sqlite; run `.* create --root .*` to make it\.\n", errors
    )


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
def test_delete_asks(command, path, monkeypatch, answer, deleted):
    other = path.with_name("qa.jsonl")
    other.write_text("mine")
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    code, output, _ = command("delete")
    assert code == 0
    assert "? [y/N] " in output
    assert path.exists() != deleted
    assert other.exists()


def test_delete_yes(command, path):
    assert command("delete", "--yes") == (0, f"deleted {path}\n", "")
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--num", "0"], r"Argument --num: expected a number of people from 1 to 169,556, got '0'"),
        (["destroy"], r"invalid choice: 'destroy' \(choose from .*create.*query.*delete"),
        ([], r"The following arguments are required: create\|query\|delete"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, message, capsys):
    assert sql_db.main(arguments) == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors)
    assert errors.count("\n") == 1


def test_a_root_that_is_a_file_is_refused(tmp_path, capsys):
    root = tmp_path / "data"
    root.write_text("mine")
    assert sql_db.main(["create", "--num", "3", "--root", str(root)]) == 2
    assert re.fullmatch(
        r"Cannot write .*: Not a directory; the data root must .*\.\n", capsys.readouterr().err
    )


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from apps.memory.dataset.sql_db import main; sys.exit(main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "create", "--num", "5000", "--root", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert re.fullmatch(r"Cannot write .*people\.sqlite: .*\.\n", result.stderr)
    assert not list((tmp_path / "memory").iterdir())


def test_what_a_killed_process_of_the_same_number_left_is_not_in_the_way(path, tmp_path):
    half_written = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    half_written.write_bytes(path.read_bytes())
    assert sql_db.create_database(tmp_path, 12).startswith("wrote")
    assert sql_db.create_database(tmp_path, 12).startswith("kept")


def test_strange_roots(tmp_path, capsys):
    root = tmp_path / "my data?#%41"
    sql_db.create_database(root, 3)
    assert sql_db.main(["query", "--name", "Bertha Malone", "--root", str(root)]) == 0
    assert "1997-08-24" in capsys.readouterr().out


def test_a_query_shows_no_character_that_steers_the_terminal(command, path):
    code, output, _ = command("query", "SELECT char(27) || '[2J' || char(10) || 'x' AS a")
    assert code == 0
    assert output.splitlines() == ["a", "-" * 7, "\ufffd[2J\\nx"]


def test_what_a_killed_writer_left_long_ago_is_removed(tmp_path):
    old, young = (tmp_path / f".people.jsonl.{name}.tmp" for name in ("0a", "0b"))
    for left in (old, young):
        left.write_text("half")
    os.utime(old, (0, 0))
    with replacing(tmp_path / "people.jsonl"):
        pass
    assert not old.exists() and young.exists(), "of the young one the writer may be at work"
