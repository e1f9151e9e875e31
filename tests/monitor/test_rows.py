"""Tables of rows: what is written is read, what is torn is cut."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.monitor.rows import RowFile


@pytest.fixture
def table(tmp_path: Path) -> RowFile:
    rows = RowFile(tmp_path / "metrics.jsonl")
    for step in (2, 4, 6):
        rows.append({"step": step, "loss": 1 / step})
    return rows


def test_rows_come_back_exactly(table: RowFile) -> None:
    assert table.read() == [{"step": step, "loss": 1 / step} for step in (2, 4, 6)]
    assert table.last() == {"step": 6, "loss": 1 / 6}


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "missing.jsonl")
    assert rows.read() == [] and rows.last() == {} and rows.cut(3) == 0
    rows.sync()
    assert not rows.path.exists()


def test_cutting_keeps_the_rows_up_to_a_step(table: RowFile) -> None:
    before = table.path.read_text().splitlines(keepends=True)
    assert table.cut(4) == 1
    assert table.path.read_text() == "".join(before[:2])
    assert table.cut(4) == 0


@pytest.mark.parametrize("n_bytes", range(1, 12))
def test_a_torn_last_row_is_cut(table: RowFile, n_bytes: int) -> None:
    whole = table.path.read_bytes()
    table.path.write_bytes(whole[:-n_bytes])
    assert [row["step"] for row in table.read()] == [2, 4]
    table.cut(99)
    table.append({"step": 6, "loss": 1 / 6})
    assert table.path.read_bytes() == whole


def test_a_torn_character_is_cut_too(table: RowFile) -> None:
    whole = table.path.read_bytes()
    table.path.write_bytes(whole + '{"step": 8, "name": "é'.encode()[:-1])
    table.cut(99)
    assert table.path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1}', '{"step": "2"}', ""])
def test_any_other_damage_is_reported_with_its_line(table: RowFile, line: str) -> None:
    lines = table.path.read_text().splitlines()
    table.path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2 is not a JSON object with an integer `step`"):
        table.read()


@pytest.mark.parametrize("n_letters", [0, 8150, 8192, 40_000])
@pytest.mark.parametrize("unfinished", ["", '{"step": 8', '{"step": 8, "text": "' + "b" * 20_000])
def test_the_last_row_is_found_whatever_its_size(table: RowFile, n_letters: int, unfinished: str) -> None:
    last = {"step": 7, "text": "a" * n_letters}
    table.append(last)
    with open(table.path, "a") as file:
        file.write(unfinished)
    assert table.last() == table.read()[-1] == last


def test_the_last_row_waits_for_no_other(table: RowFile) -> None:
    text = table.path.read_text()
    table.path.write_text("{\n" * 20_000 + text)
    assert table.last()["step"] == 6
    table.path.write_text('{"step": 8')
    assert table.last() == {}


@pytest.mark.parametrize("line", ["{", '{"loss": 1}', ""])
def test_a_last_row_that_is_damaged_is_reported_with_its_line(table: RowFile, line: str) -> None:
    with open(table.path, "a") as file:
        file.write(line + '\n{"step"')
    with pytest.raises(UserError, match=r"metrics\.jsonl:4 is not a JSON object with an integer `step`"):
        table.last()


def test_what_is_not_finite_becomes_null(table: RowFile) -> None:
    table.append({"step": 8, "loss": math.nan, "grad_norm": math.inf, "layers": {"first": (1.5, -math.inf)}})
    assert table.last() == {"step": 8, "loss": None, "grad_norm": None, "layers": {"first": [1.5, None]}}
