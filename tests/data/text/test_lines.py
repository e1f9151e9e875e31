"""Lines of files: where they end, and what in them is no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanollama.data.text.config import TextConfig
from nanollama.data.text.documents import read_documents, split_of
from nanollama.errors import UserError


def read(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    return list(read_documents(TextConfig(files=(path,))))


def test_a_line_ends_at_line_feeds_alone(tmp_path: Path) -> None:
    inside = "one\u2028two\x85three\x0cfour"
    assert read(tmp_path / "a.jsonl", f'{{"text": "{inside[:-5]}"}}\r\n'.encode()) == [inside[:-5]]
    assert read(tmp_path / "a.txt", f"{inside}\r\nnext".encode()) == [inside, "next"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path: Path, name: str) -> None:
    content = '{"text": "one"}' if name == "a.jsonl" else "one"
    assert read(tmp_path / name, content.encode("utf-8-sig")) == ["one"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (r'{"text": "a\ud800"}', r"a\.jsonl:2: the text has half a character, '\\ud800', at 1: expected"),
        ("[" * 100_000, r"a\.jsonl:2: this line is nested too deeply to be read\."),
        ('{"text": NaN}', r"a\.jsonl:2: expected an object with a text under 'text', which holds NaN\.$"),
        ('{"text": null}', r"a text under 'text', which holds null\.$"),
        ('{"text": [1]}', r"a text under 'text', which holds a list\.$"),
    ],
)
def test_lines_that_hold_no_text_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.jsonl", b'{"text": "one"}\n' + line.encode())


def test_copies_that_a_tokenizer_cannot_tell_apart_are_held_out_together() -> None:
    for n in range(50):
        copies = [f"caf\u00e9 {n}", f"cafe\u0301 {n}", f"cafe {n}", f"CAF\u00c9 {n}", f"ca\u00adfe\u200b {n}"]
        assert len({split_of(text, 0.3) for text in copies}) == 1


def test_where_ascii_documents_belong_is_what_it_was() -> None:
    splits = "".join(split_of(f"Document\t{n},  of 60.", 0.2)[1] for n in range(60))
    assert splits == "rrararraaarrararrrrrrrrrrrrrarrarrrererarrrrreerrrreerrrrare"


def test_copies_that_differ_in_case_or_blanks_are_held_out_together() -> None:
    for n in range(50):
        copies = [f"The Number {n}", f"the number {n}", f" THE\t number  {n}\u00a0"]
        assert len({split_of(text, 0.3) for text in copies}) == 1
