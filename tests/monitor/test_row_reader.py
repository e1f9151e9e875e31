"""A file of rows followed while it grows, is cut, replaced or begun anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.monitor.rows import RowFile, RowReader


def line(step: int, loss: float = 0.5) -> str:
    return json.dumps({"step": step, "loss": loss}) + "\n"


def steps(reader: RowReader) -> tuple[list[int], bool]:
    new = reader.read_new()
    return [row["step"] for row in new.rows], new.is_anew


def test_each_row_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = RowReader(path)
    assert steps(reader) == ([], False)
    path.write_text(line(1) + line(2) + '{"step": 3')
    assert steps(reader) == ([1, 2], False)
    assert steps(reader) == ([], False)
    with path.open("a") as file:
        file.write(', "loss": 1.0}\n')
    assert steps(reader) == ([3], False)


def test_what_was_read_in_parts_is_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    text = "".join(line(step, 1 / step) for step in range(1, 60)) + '{"step": 60, "name": "é€"}\n'
    data, reader, rows = text.encode(), RowReader(path), []
    for end in range(0, len(data) + 1, 7):
        with path.open("ab") as file:
            file.write(data[end : end + 7])
        rows += reader.read_new().rows
    assert rows == RowFile(path).read()


def test_a_file_that_was_cut_is_read_again(tmp_path: Path) -> None:
    table = RowFile(tmp_path / "metrics.jsonl")
    for step in range(1, 9):
        table.append({"step": step})
    reader = RowReader(table.path)
    reader.read_new()
    table.cut(3)
    for step in range(4, 12):
        table.append({"step": step, "again": True})
    assert steps(reader) == (list(range(1, 12)), True)


def test_a_file_written_over_in_its_place_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2))
    reader = RowReader(path)
    reader.read_new()
    path.write_text(line(7) + line(8) + line(9))
    assert steps(reader) == ([7, 8, 9], True)


def test_a_file_that_is_gone_is_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1))
    reader = RowReader(path)
    reader.read_new()
    path.unlink()
    assert steps(reader) == ([], True)
    path.write_text(line(1))
    assert steps(reader) == ([1], False)


def test_a_damaged_line_is_named_by_its_number_each_time(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2))
    reader = RowReader(path)
    reader.read_new()
    with path.open("a") as file:
        file.write("{}\n")
    for _ in range(2):
        with pytest.raises(UserError, match=r"metrics\.jsonl:3 is not a JSON object"):
            reader.read_new()


@pytest.mark.parametrize("n_rows", [1, 5, 5000])
def test_a_sample_has_the_ends_and_rows_of_the_file(tmp_path: Path, n_rows: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step, 1 / step) for step in range(1, n_rows + 1)))
    sample = RowReader(path).sample(20)
    every = RowFile(path).read()
    assert (sample[0], sample[-1]) == (every[0], every[-1])
    assert [row for row in every if row in sample] == sample
    assert len(sample) >= min(n_rows, 2)


def test_nothing_is_a_sample_of_nothing(tmp_path: Path) -> None:
    assert RowReader(tmp_path / "metrics.jsonl").sample(9) == []
