"""Text to token ids, and dialogs with the mask of tokens to learn.

A dialog is laid out turn by turn, each turn opened by the special token of its role::

    <user>What is 12*3?<assistant>12*3 is 36.<end>

and, when the assistant calls a tool, the tool's reply stands between two turns of the assistant::

    <user>What is 12*3?<assistant>CALC 12*3<calculator>36<assistant>12*3 is 36.<end>

The assistant writes its own text and the token that ends its turn (the role it hands over to, or ``<end>``).
These tokens carry loss; all others are given to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

N_BYTES = 256
END = "end"
"""Name of the special token that ends a dialog."""


class Message(NamedTuple):
    """One turn of a dialog: who speaks (a role of the tokenizer) and what is said."""

    role: str
    content: str


@dataclass(frozen=True)
class EncodedDialog:
    """Token ids of a dialog, shape (T,), and which of them the assistant writes, shape (T,)."""

    ids: np.ndarray
    loss_mask: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class DialogTokenizer(ABC):
    """Dialogs as token ids: each turn is opened by the special token of its role.

    Args:
        special_ids: of the roles, in their order, and of ``end``, which ends a dialog.
        vocab_size: number of token ids.
        unwritten: ids that no text becomes, those of roles and of the end among them.
        opening: ids that every dialog begins with.
        assistant: the role whose tokens carry loss.
    """

    def __init__(
        self,
        special_ids: Mapping[str, int],
        vocab_size: int,
        unwritten: Collection[int],
        opening: Sequence[int] = (),
        assistant: str = "assistant",
    ) -> None:
        self.special_ids = dict(special_ids)
        self.roles = tuple(name for name in special_ids if name != END)
        if assistant not in self.roles:
            raise ValueError(f"The assistant's role '{assistant}' is not among the roles {list(self.roles)}.")
        self.assistant = assistant
        self.vocab_size = vocab_size
        self.end_id = self.special_ids[END]
        self.opening = tuple(opening)
        self._unwritten = frozenset(unwritten)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text, which never becomes a special token."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens are shown by their names."""

    def is_text(self, token: int) -> bool:
        """Is it part of a text, and not a special token or an id that means nothing?"""
        return token < self.vocab_size and token not in self._unwritten

    def role_id(self, role: str) -> int:
        """The special token of a role, of an assistant, a tool or another.

        Raises:
            ValueError: the tokenizer has none for it.
        """
        if role not in self.roles:
            raise ValueError(f"Unknown role '{role}'; this tokenizer knows {list(self.roles)}.")
        return self.special_ids[role]

    def encode_dialog(self, messages: Sequence[Message]) -> EncodedDialog:
        """Ids and loss mask of a whole dialog, ended by ``<end>``."""
        ids = [*self.opening]
        mask = [False] * len(ids)
        written = False  # does the assistant hold the pen when the next turn's token is placed?
        for message in messages:
            content = self.encode(message.content)
            speaks = message.role == self.assistant
            ids += [self.role_id(message.role), *content]
            mask += [written, *[speaks] * len(content)]
            written = speaks
        ids.append(self.end_id)
        mask.append(written)
        return EncodedDialog(np.array(ids, dtype=np.int64), np.array(mask, dtype=bool))

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the turns so far, followed by the token that gives the assistant the word."""
        ids = [*self.opening]
        for message in messages:
            ids += [self.role_id(message.role), *self.encode(message.content)]
        return [*ids, self.special_ids[self.assistant]]

    def encode_reply(self, text: str) -> list[int]:
        """Ids of what a tool replies, followed by what gives the assistant the word again."""
        return [*self.encode(text), self.special_ids[self.assistant]]

    def request(self, ids: Sequence[int]) -> str:
        """The turn of the assistant that a dialog's last token, that of a tool's role, has ended."""
        start = len(ids) - 1
        while start > 0 and ids[start - 1] != self.special_ids[self.assistant]:
            start -= 1
        return self.decode(ids[start:-1])

    def decode_dialog(self, ids: Sequence[int]) -> list[Message]:
        """The turns of a sequence of ids; what comes before the first role or after ``<end>`` is left out."""
        roles = {self.special_ids[role]: role for role in self.roles}
        if self.opening and tuple(ids[: len(self.opening)]) == self.opening:
            ids = ids[len(self.opening) :]  # it may be the token that ends a text, as in OPT
        messages: list[Message] = []
        start = None
        for position, index in enumerate([*ids, self.end_id]):
            if index not in roles and index != self.end_id:
                continue
            if start is not None:
                messages.append(Message(roles[ids[start]], self.decode(ids[start + 1 : position])))
            start = position
            if index == self.end_id:
                break
        return messages


class ByteTokenizer(DialogTokenizer):
    """UTF-8 bytes are ids 0..255; special tokens follow, in the order given.

    Args:
        roles: who may speak; each role is a special token that opens its turn.
        assistant: the role whose tokens carry loss.
    """

    def __init__(self, roles: Sequence[str], assistant: str = "assistant") -> None:
        names = [*roles, END]
        if len(set(names)) != len(names):
            raise ValueError(f"Special tokens must differ, got {names}.")
        ids = {name: N_BYTES + index for index, name in enumerate(names)}
        super().__init__(ids, N_BYTES + len(names), ids.values(), assistant=assistant)
        self._names = {index: f"<{name}>" for name, index in ids.items()}

    def encode(self, text: str) -> list[int]:
        """UTF-8 bytes of the text; text never becomes a special token."""
        return list(text.encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens are shown as ``<name>``, bytes that are not UTF-8 as U+FFFD."""
        pieces, run = [], bytearray()
        for index in ids:
            if 0 <= index < N_BYTES:
                run.append(index)
                continue
            pieces += [run.decode("utf-8", errors="replace"), self._names.get(index, f"<{index}?>")]
            run = bytearray()
        return "".join([*pieces, run.decode("utf-8", errors="replace")])
