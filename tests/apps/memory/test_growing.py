"""The database of a chat: it holds whom a run is examined about, and grows by whom it is asked about."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_run import toy_config

from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.paths import database_path
from apps.memory.dataset.people import Person, people
from apps.memory.dataset.sql_db import create_database, read_rows
from apps.memory.recall import build_recall, n_asked_about, open_tool

FAR = 700


def request_of(person: Person) -> str:
    return make_dialog(person, "birth_place", "qatool").messages[1].content


@pytest.mark.parametrize("grows", [False, True])
def test_it_holds_whom_the_training_has_put_there(grows: bool, tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with build_recall(config):
        there = database_path(config.data_root).read_bytes()
    with open_tool(config, grows) as tool:
        assert tool is not None and tool.role == "database"
        for person in (*people(0, 3), *people(0, 1, "new")):
            assert tool.answer([request_of(person)]) == [person.birth_place]
    assert database_path(config.data_root).read_bytes() == there
    assert len(read_rows(database_path(config.data_root))) == 2 * n_asked_about(config) == 8


@pytest.mark.parametrize("population", ["train", "new"])
def test_it_grows_by_whom_it_lacks(population: str, tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    (person,) = people(FAR, FAR + 1, population)  # type: ignore[arg-type]
    nobody = request_of(person._replace(name="Gien Heshott"))
    with open_tool(config) as tool:
        assert tool is not None and not tool.reply([request_of(person)])[0].ok
    with open_tool(config, grows=True) as tool:
        assert tool is not None and not tool.reply([nobody])[0].ok
        assert len(read_rows(database_path(config.data_root))) == 8
        assert tool.answer([nobody, request_of(person)])[1] == person.birth_place
        assert len(read_rows(database_path(config.data_root))) == 2 * (FAR + 1)


def test_a_longer_one_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_config(tmp_path)
    create_database(config.data_root, FAR + 1)
    there = database_path(config.data_root).read_bytes()
    with open_tool(config, grows=True) as tool:
        assert tool is not None
        assert tool.reply([request_of(people(FAR, FAR + 1)[0])])[0].ok
    assert database_path(config.data_root).read_bytes() == there
    assert capsys.readouterr().out == ""


def test_one_that_cannot_grow_answers_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_config(tmp_path)
    (near, far, farther) = (people(number, number + 1)[0] for number in (0, FAR, FAR + 1))
    with open_tool(config, grows=True) as tool:
        assert tool is not None and tool.reply([request_of(near)])[0].ok
        database_path(config.data_root).write_text("my notes")
        assert not tool.reply([request_of(far)])[0].ok
        assert capsys.readouterr().err.count("holds something else than the people of this study") == 1
        assert not tool.reply([request_of(farther)])[0].ok
    assert capsys.readouterr().err == ""
    assert database_path(config.data_root).read_text() == "my notes"
