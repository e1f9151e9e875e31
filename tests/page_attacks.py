"""What others may try on any page that is served to this machine: other sites, other users, odd bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TypeVar

import pytest

from nanollama.serving.server import LocalServer

Attack = tuple[str, str, str, int]
"""A name, the first line of the request, its headers, and the status of the reply, if it has a head.

In the texts, TOKEN, HALF (of it), PORT and ASK (a question of the page) are filled in."""

ATTACKS: list[Attack] = [
    ("a name of another site that points here", "GET /TOKEN/ HTTP/1.1", "Host: evil.example", 421),
    ("the same with our port", "GET /TOKEN/ HTTP/1.1", "Host: evil.example:PORT", 421),
    ("a name that begins like ours", "GET /TOKEN/ HTTP/1.1", "Host: 127.0.0.1.evil.example", 421),
    ("a name that ends like ours", "GET /TOKEN/ HTTP/1.1", "Host: evil-localhost", 421),
    ("our name with a user", "GET /TOKEN/ HTTP/1.1", "Host: evil@127.0.0.1", 421),
    ("our name and words for a port", "GET /TOKEN/ HTTP/1.1", "Host: 127.0.0.1:80@evil.example", 421),
    ("another way to write our address", "GET /TOKEN/ HTTP/1.1", "Host: 2130706433", 421),
    ("every address", "GET /TOKEN/ HTTP/1.1", "Host: 0.0.0.0:PORT", 421),
    ("no name", "GET /TOKEN/ HTTP/1.1", "Accept: */*", 421),
    ("an empty name", "GET /TOKEN/ HTTP/1.1", "Host:", 421),
    ("two names", "GET /TOKEN/ HTTP/1.1", "Host: 127.0.0.1\r\nHost: evil.example", 421),
    ("an old protocol without names", "GET /TOKEN/", "", 0),
    (
        "a page of another site",
        "GET /TOKEN/ASK HTTP/1.1",
        "Host: 127.0.0.1\r\nOrigin: http://evil.example",
        403,
    ),
    ("a page without a site", "GET /TOKEN/ASK HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: null", 403),
    (
        "another port of this machine",
        "GET /TOKEN/ASK HTTP/1.1",
        "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:1",
        403,
    ),
    (
        "an origin that begins like ours",
        "GET /TOKEN/ASK HTTP/1.1",
        "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1.evil",
        403,
    ),
    ("another protocol", "GET /TOKEN/ASK HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: https://127.0.0.1", 403),
    (
        "an image of another site",
        "GET /TOKEN/ASK HTTP/1.1",
        "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site",
        403,
    ),
    (
        "a script of another port",
        "GET /TOKEN/parts.js HTTP/1.1",
        "Host: 127.0.0.1\r\nSec-Fetch-Site: same-site",
        403,
    ),
    ("no token", "GET / HTTP/1.1", "Host: 127.0.0.1", 404),
    ("no token before a question", "GET /ASK HTTP/1.1", "Host: 127.0.0.1", 404),
    ("an empty token", "GET //ASK HTTP/1.1", "Host: 127.0.0.1", 404),
    ("half a token", "GET /HALF/ASK HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a longer token", "GET /TOKENx/ASK HTTP/1.1", "Host: 127.0.0.1", 404),
    ("the token as a question", "GET /?TOKEN HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a token of other letters", "GET /%C3%A9%00/ HTTP/1.1", "Host: 127.0.0.1", 404),
    ("the whole address of another site", "GET http://evil.example/TOKEN/ HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a way upwards", "GET /TOKEN/../../../../etc/passwd HTTP/1.1", "Host: 127.0.0.1", 404),
    (
        "a way upwards in other letters",
        "GET /TOKEN/%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        "Host: 127.0.0.1",
        404,
    ),
    ("a way upwards by backslashes", "GET /TOKEN/..\\..\\etc\\passwd HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a whole path", "GET /TOKEN//etc/passwd HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a file of the code", "GET /TOKEN/server.py HTTP/1.1", "Host: 127.0.0.1", 404),
    ("an order to remove", "DELETE /TOKEN/ HTTP/1.1", "Host: 127.0.0.1", 501),
    ("a question before a question of another site", "OPTIONS /TOKEN/ HTTP/1.1", "Host: 127.0.0.1", 501),
    ("a tunnel", "CONNECT evil.example:443 HTTP/1.1", "Host: 127.0.0.1", 501),
    ("a path of 100,000 letters", f"GET /{'a' * 100_000} HTTP/1.1", "Host: 127.0.0.1", 414),
    ("a thousand headers", "GET /TOKEN/ HTTP/1.1", "Host: 127.0.0.1\r\n" + "A: b\r\n" * 1000, 431),
    ("no HTTP", "\x16\x03\x01 nothing of it", "", 0),
]

S = TypeVar("S", bound=LocalServer)


def each(attacks: Sequence[Attack]) -> pytest.MarkDecorator:
    """A test for each of them."""
    return pytest.mark.parametrize(
        ("line", "headers", "status"), [row[1:] for row in attacks], ids=[row[0] for row in attacks]
    )


@contextmanager
def at_work(server: S) -> Iterator[S]:
    """A server that answers."""
    with server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def send(server: LocalServer, text: str) -> bytes:
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        found = b""
        with suppress(OSError):  # it may close while we are still writing
            connection.sendall(text.encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                found += part
        return found


def attack(server: LocalServer, line: str, headers: str, status: int, ask: str, body: str = "") -> bytes:
    """Try it; the body of the reply, having seen that it has this status and tells no secret."""
    text = f"{line}\r\n{headers}\r\n\r\n{body}".replace("HALF", server.token[:12])
    text = text.replace("TOKEN", server.token).replace("ASK", ask)
    reply = send(server, text.replace("PORT", str(server.server_port)))
    if not reply and status in (413, 414, 431):
        return b""  # closed before all was read, and the reply was lost with the connection
    head, _, said = reply.partition(b"\r\n\r\n")
    if not status:  # of the oldest protocol, replies have no head
        assert reply in (b"this is served to 127.0.0.1 alone", b"Bad Request")
        return said
    assert head.split()[1] == str(status).encode()
    assert b"evil" not in reply and b"Access-Control" not in reply and server.token.encode() not in reply
    if status != 200:
        assert len(said) < 100
    return said


def no_html_is_made(script: str) -> None:
    """A script of a page has no way to read a text as HTML."""
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
        "srcdoc",
        "http:",
    ):
        assert word not in script.replace("http://www.w3.org/2000/svg", "")
