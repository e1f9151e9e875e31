"""The protocol of tools, and the request in a message."""

from __future__ import annotations

import doctest

import pytest

from nanollama.dialogs.tools import extract_request, protocol


def test_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(protocol)
    assert result.attempted == 3
    assert result.failed == 0


@pytest.mark.parametrize(
    ("message", "request_"),
    [
        ("```\nFIND a FOR b\n```", "FIND a FOR b"),
        ("Let me see.\n```\nFIND a FOR b\n```\nThere.", "FIND a FOR b"),
        ("```sql\nSELECT a\nFROM b\n```", "SELECT a\nFROM b"),
        ("```\r\nFIND a FOR b\r\n```", "FIND a FOR b"),
        ("```\nfirst\n``` and\n```\nlast\n```", "last"),
        ("```\nclosed\n``` and ```\nleft open", "closed"),
        ("```\n\n```", ""),
        ("```FIND a FOR b```", None),
        ("FIND a FOR b", None),
        ("```\nFIND a FOR b", None),
        ("", None),
    ],
)
def test_request_is_the_last_closed_block(message: str, request_: str | None) -> None:
    assert extract_request(message) == request_
