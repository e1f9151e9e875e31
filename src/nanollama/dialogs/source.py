"""Dialogs from a JSON-lines file, held as flat arrays of tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nanollama.errors import UserError
from nanollama.tokenizer import DialogTokenizer, EncodedDialog, Message


class DialogSource:
    """Encoded dialogs: one flat array of ids, one of loss marks, and where each dialog starts.

    Memory is three bytes a token, five where there are more than 65,536 ids: a million dialogs fit a laptop.
    """

    def __init__(self, dialogs: Iterable[Sequence[Message]], tokenizer: DialogTokenizer) -> None:
        encoded = [_encode(number, messages, tokenizer) for number, messages in enumerate(dialogs, start=1)]
        if not encoded:
            raise UserError("There are no dialogs to learn from: expected at least one.")
        self._lengths = np.array([len(dialog) for dialog in encoded])
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        self._ids = np.concatenate([dialog.ids.astype(dtype) for dialog in encoded])
        self._mask = np.concatenate([dialog.loss_mask for dialog in encoded])

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> np.ndarray:
        """Tokens of each dialog, shape (n,)."""
        return self._lengths

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and loss mask of a dialog."""
        span = slice(self._starts[index], self._starts[index + 1])
        return self._ids[span].astype(np.int64), self._mask[span]


def _encode(number: int, messages: Sequence[Message], tokenizer: DialogTokenizer) -> EncodedDialog:
    try:
        return tokenizer.encode_dialog(messages)
    except ValueError as error:
        raise UserError(f"dialog {number}: {error}") from None


def open_texts(path: Path) -> BinaryIO:
    """A file of JSON lines, opened.

    Raises:
        UserError: it is not there, is no file, or may not be read.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of dialogs; generate it first.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def read_dialogs(path: Path, roles: Sequence[str], n_dialogs: int | None = None) -> list[list[Message]]:
    """The first dialogs of a file, all of them when ``n_dialogs`` is ``None``.

    Args:
        path: a file of JSON lines.
        roles: those the tokenizer knows.
        n_dialogs: how many to read.

    Raises:
        UserError: the file is missing, too short or a line is not a dialog between these roles.
    """
    dialogs: list[list[Message]] = []
    with open_texts(path) as lines:
        for number, line in enumerate(lines, start=1):
            if len(dialogs) == n_dialogs:
                break
            dialogs.append(_parse_line(line, f"{path}:{number}", roles))
    if n_dialogs is not None and len(dialogs) < n_dialogs:
        raise UserError(f"{path}: holds {len(dialogs)} dialogs, but {n_dialogs} were asked for.")
    if not dialogs:
        raise UserError(f"{path}: the file is empty; expected one dialog a line.")
    return dialogs


def _parse_line(line: bytes, place: str, roles: Sequence[str]) -> list[Message]:
    expected = 'expected {"messages": [{"role": ..., "content": ...}, ...]}'
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not a line of JSON ({error}); {expected}.") from None
    try:
        messages = [Message(turn["role"], turn["content"]) for turn in record["messages"]]
    except (TypeError, KeyError):
        raise UserError(f"{place}: not a dialog; {expected}.") from None
    if not all(isinstance(text, str) for message in messages for text in message):
        raise UserError(f"{place}: a role or a content is not a text; {expected}.")
    if not messages:
        raise UserError(f"{place}: a dialog without messages; {expected}.")
    for message in messages:
        if message.role not in roles:
            known = ", ".join(roles)
            raise UserError(f"{place}: unknown role '{message.role}'; expected one of {known}.")
    return messages
