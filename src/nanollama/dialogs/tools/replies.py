"""From the text of a message to the request in it, and from values to a reply within its limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nanollama.dialogs.tools.config import Limits
from nanollama.dialogs.tools.protocol import FENCE, Reply, extract_request

TOO_SLOW = "the query takes too long, ask for one name"

Row = Sequence[object]

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # databases store neither NUL nor halves of surrogate pairs


class RequestError(Exception):
    """A request that gets no value; the message is for the model and becomes the reply."""


def read_request(message: str, limits: Limits) -> str:
    """The request in a message.

    Raises:
        RequestError: the message is too long, no text that can be stored, or holds no request.
    """
    if len(message) > limits.max_request_chars:
        raise RequestError(f"message longer than {limits.max_request_chars} characters")
    if _NO_TEXT.search(message):
        raise RequestError("message with a character that is no text")
    request = extract_request(message)
    if not request:
        raise RequestError(f"no request, write it in a block fenced by {FENCE}")
    return request


def value_reply(rows: Iterable[Row], limits: Limits) -> Reply:
    """The values, one row a line, columns separated by ``|``.

    An absent value is written ``no value``; a reply of nothing else is not ``ok``.
    """
    rows = list(rows)
    text = "\n".join(" | ".join(map(text_of, row)) for row in rows)
    if len(text.encode()) > limits.max_reply_bytes:
        return error_reply(f"reply longer than {limits.max_reply_bytes} bytes", limits)
    return Reply(text, ok=any(value is not None for row in rows for value in row))


def error_reply(error: object, limits: Limits) -> Reply:
    """The error in one line, cut where the limit asks for it."""
    text = " ".join(f"error: {error}".split())
    return Reply(text.encode()[: limits.max_reply_bytes].decode(errors="ignore"), ok=False)


def text_of(value: object) -> str:
    """A value as the model reads it."""
    if value is None:
        return "no value"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode(errors="replace")
    return str(value)
