"""Dialogs from files, and what is said about files that are not."""

import json
from pathlib import Path

import numpy as np
import pytest

from nanollama.dialogs.source import DialogSource, read_dialogs
from nanollama.errors import UserError
from nanollama.tokenizer import ByteTokenizer, Message

ROLES = ("user", "assistant", "database")
DIALOGS = [
    [Message("user", "Where?"), Message("assistant", "Here, über all.")],
    [Message("user", "?"), Message("assistant", "")],
]


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def record(messages: list[Message]) -> dict[str, object]:
    return {"messages": [message._asdict() for message in messages]}


def test_a_source_gives_back_every_dialog() -> None:
    tokenizer = ByteTokenizer(ROLES)
    source = DialogSource(DIALOGS, tokenizer)
    assert len(source) == 2
    for index, messages in enumerate(DIALOGS):
        ids, mask = source.document(index)
        encoded = tokenizer.encode_dialog(messages)
        assert np.array_equal(ids, encoded.ids) and np.array_equal(mask, encoded.loss_mask)
        assert source.lengths()[index] == len(encoded)


def test_the_first_dialogs_of_a_file_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.jsonl", *map(record, DIALOGS))
    assert read_dialogs(path, ROLES) == DIALOGS
    assert read_dialogs(path, ROLES, 1) == DIALOGS[:1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"messages": [{"role": "us', r"qa.jsonl:1: not a line of JSON"),
        (b"\xff\xfe\n", r"qa.jsonl:1: not a line of JSON"),
        (b'{"messages": ' + b"9" * 5000 + b"}\n", r"qa.jsonl:1: not a line of JSON"),
        (b"[" * 100_000 + b"\n", r"qa.jsonl:1: not a line of JSON"),
        (b'{"messages": [{"role": "user"}]}\n', r"qa.jsonl:1: not a dialog"),
        (b'{"text": "x"}\n', r"qa.jsonl:1: not a dialog"),
        (b"[1, 2]\n", r"qa.jsonl:1: not a dialog"),
        (b'{"messages": []}\n', r"qa.jsonl:1: a dialog without messages"),
        (
            b'{"messages": [{"role": "system", "content": "x"}]}\n',
            r"qa.jsonl:1: unknown role 'system'; expected one of user, assistant, database\.",
        ),
        (
            b'{"messages": [{"role": "user", "content": 7}]}\n',
            r"qa.jsonl:1: a role or a content is not a text",
        ),
        (b"", r"qa.jsonl: the file is empty"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_dialogs(path, ROLES)


def test_a_missing_or_short_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of dialogs"):
        read_dialogs(tmp_path / "qa.jsonl", ROLES)
    path = write(tmp_path / "qa.jsonl", *map(record, DIALOGS))
    with pytest.raises(UserError, match="holds 2 dialogs, but 3 were asked for"):
        read_dialogs(path, ROLES, 3)


def test_a_role_that_the_tokenizer_does_not_know_is_a_mistake_of_the_data() -> None:
    with pytest.raises(UserError, match="dialog 1: Unknown role 'system'"):
        DialogSource([[Message("system", "x")]], ByteTokenizer(ROLES))
    with pytest.raises(UserError, match="no dialogs"):
        DialogSource([], ByteTokenizer(ROLES))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: no such file of dialogs"):
        read_dialogs(tmp_path / "none.jsonl", ROLES)
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        read_dialogs(tmp_path, ROLES)
