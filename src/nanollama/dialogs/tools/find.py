"""The request language ``find``: one line ``FIND attribute FOR name``.

What follows ``FOR`` is the name, to the letter; nothing in it has a meaning. A batch of requests takes one
query for every :data:`CHUNK` names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nanollama.dialogs.tools.config import DatabaseConfig
from nanollama.dialogs.tools.protocol import Reply
from nanollama.dialogs.tools.replies import RequestError, Row, error_reply, read_request, text_of, value_reply

CHUNK = 500
"""Most names in one query: well below the number of bound parameters that any database takes."""

Fetch = Callable[[Sequence[str]], Iterable[Row]]
"""Rows of some names: the name, then all attributes in the order of the config.

May raise RequestError and, of several names, OneByOneError.
"""

_FIND = re.compile(r"FIND ([A-Za-z_][A-Za-z0-9_]*) FOR ([^\n\r]+)")


class OneByOneError(Exception):
    """Several names cannot be fetched together: each is to be fetched alone, so that none spoils others."""


class Find(NamedTuple):
    """A request that was understood."""

    attribute: str
    name: str


def parse_find(message: str, config: DatabaseConfig) -> Find:
    """The request in a message.

    Raises:
        RequestError: there is none, it is badly written, or the attribute is not one of the config's.
    """
    match = _FIND.fullmatch(read_request(message, config.limits))
    if match is None:
        raise RequestError("write FIND attribute FOR name")
    find = Find(*match.groups())
    if find.attribute not in config.attributes:
        raise RequestError(f"unknown attribute, use {', '.join(config.attributes)}")
    return find


def reply_to_finds(messages: Sequence[str], config: DatabaseConfig, fetch: Fetch) -> list[Reply]:
    """One reply a message: the value, ``unknown name``, or an error."""
    parsed: list[Find | RequestError] = []
    for message in messages:
        try:
            parsed.append(parse_find(message, config))
        except RequestError as error:
            parsed.append(error)
    found = _look_up([find.name for find in parsed if isinstance(find, Find)], fetch)
    return [_reply(find, found, config) for find in parsed]


def _look_up(names: Sequence[str], fetch: Fetch) -> dict[str, Row | RequestError]:
    found: dict[str, Row | RequestError] = {}
    unique = list(dict.fromkeys(names))
    for start in range(0, len(unique), CHUNK):
        found.update(_look_up_together(unique[start : start + CHUNK], fetch))
    return found


def _look_up_together(names: Sequence[str], fetch: Fetch) -> dict[str, Row | RequestError]:
    try:
        rows = list(fetch(names))
    except OneByOneError:
        alone = [(name, _look_up_together([name], fetch)) for name in names]
        return {name: own[name] for name, own in alone if name in own}
    except RequestError as error:
        return dict.fromkeys(names, error)
    found: dict[str, Row | RequestError] = {}
    for row in rows:
        name = text_of(row[0])
        found[name] = RequestError("several rows have this name") if name in found else row
    return found


def _reply(find: Find | RequestError, found: dict[str, Row | RequestError], config: DatabaseConfig) -> Reply:
    if isinstance(find, RequestError):
        return error_reply(find, config.limits)
    row = found.get(find.name)
    if row is None:
        return Reply("unknown name", ok=False)
    if isinstance(row, RequestError):
        return error_reply(row, config.limits)
    return value_reply([[row[1 + config.attributes.index(find.attribute)]]], config.limits)
