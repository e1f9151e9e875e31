"""The server of the page: on this machine alone, for who knows its address, and for reading alone.

Each request is asked four things before it is answered, and is refused when it fails one of them:

- Did it come to 127.0.0.1 or localhost by name (`Host`)? A page of another site may point a name of its own
  to this machine, and would then read what is served (DNS rebinding).
- If a page sent it, was it our own (`Origin`, `Sec-Fetch-Site`)?
- Does its path begin with the token that was drawn when the server began? Other users of this machine can
  connect to it, too, but have not seen the address.
- Is it one of the few paths that there are? None names a file, so none can name a wrong one.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nanollama.watch.columns import STEP
from nanollama.watch.series import SECONDS, View
from nanollama.watch.watched import Watched

ADDRESS = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
"""Of this machine; the port may be another one, as behind `ssh -L`."""
SECONDS_TO_ASK = 10.0
MAX_AT_A_TIME = 16
MAX_WINDOW = 100_000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {
    "": ("watch", "watch.html", "text/html; charset=utf-8"),
    "page.css": ("report", "page.css", "text/css; charset=utf-8"),
    "elements.js": ("report", "elements.js", "text/javascript; charset=utf-8"),
    "watch.css": ("watch", "watch.css", "text/css; charset=utf-8"),
    **{
        name: ("watch", name, "text/javascript; charset=utf-8")
        for name in ("watch.js", "chart.js", "parts.js")
    },
}
"""By path: the package and the name of each file of the page, and its kind."""
TEXT = "text/plain; charset=utf-8"


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of the reply.
        why: in a few words, none of them the request's own.
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Reply:
    """What is sent: a body, its kind, and a tag that changes when it does, where one is needed."""

    body: bytes
    kind: str = "application/json"
    tag: str = ""


class WatchServer(ThreadingHTTPServer):
    """Serves what is followed.

    Args:
        watched: what is served.
        port: 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, watched: Watched, port: int) -> None:
        self.watched = watched
        self.token = secrets.token_urlsafe(18)
        self.at_a_time = BoundedSemaphore(MAX_AT_A_TIME)
        self.files = {
            path: ((resources.files(f"nanollama.{package}") / name).read_bytes(), kind)
            for path, (package, name, kind) in FILES.items()
        }
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """As the base class, but without asking anybody for the name of this machine."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As the base class, but say nothing of a page that was closed before it had its answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def answer(self, path: str, query: Mapping[str, str], known: str | None) -> Reply:
        """The reply to a path behind the token.

        Args:
            path: of a file of the page, or of a question.
            query: what exactly is asked.
            known: the tag of the answer that the page has; where it would be the same, it is not made again.

        Raises:
            Refused: there is no such thing, or the question is wrong.
        """
        if path in self.files:
            return Reply(*self.files[path])
        if path == "api/run":
            number = _whole(query.get("number"), 0, len(self.watched.runs) - 1)
            return Reply(_json(self.watched.details(number)))
        if path == "api/state":
            self.watched.refresh()
            body = _json(self.watched.state())
            return Reply(body, tag=_tag(body))
        if path == "api/curves":
            view = read_view(query)
            self.watched.refresh()
            tag = _tag(f"{self.watched.n_changes} {view}".encode())
            return Reply(b"" if known == tag else _json(self.watched.curves(view)), tag=tag)
        raise Refused(HTTPStatus.NOT_FOUND, "nothing is here")


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    timeout = SECONDS_TO_ASK
    server_version, sys_version = "nanollama", ""

    def do_GET(self) -> None:
        """Answer, or say in a word why not."""
        with self.server.at_a_time:
            try:
                path, query = self._admit()
                known = self.headers.get("If-None-Match")
                reply = self.server.answer(path, query, known)
            except Refused as refused:
                self._send(refused.status, Reply(refused.why.encode(), TEXT))
            else:
                if reply.tag and reply.tag == known:
                    self._send(HTTPStatus.NOT_MODIFIED, Reply(b"", reply.kind, reply.tag))
                else:
                    self._send(HTTPStatus.OK, reply)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the user's."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As `Refused`: what the base class says repeats the request."""
        self._send(HTTPStatus(code), Reply(HTTPStatus(code).phrase.encode(), TEXT))

    def _admit(self) -> tuple[str, dict[str, str]]:
        """The path behind the token and the query of a request that may be answered."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or _name_of(hosts[0]) not in NAMES:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "this is served to 127.0.0.1 alone")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            raise Refused(HTTPStatus.FORBIDDEN, "another site asks")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refused(HTTPStatus.FORBIDDEN, "another site asks")
        if not self.path.startswith("/") or "\\" in self.path:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing is here")
        parts = urlsplit("//x" + self.path)
        token, _, path = parts.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            raise Refused(HTTPStatus.NOT_FOUND, "nothing is here: open the address that was printed")
        try:
            query = parse_qs(
                parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=12
            )
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "the question is wrong") from None
        return path, {name: values[-1] for name, values in query.items()}

    def _send(self, status: HTTPStatus, reply: Reply) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        if reply.tag:
            self.send_header("ETag", reply.tag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)


def read_view(query: Mapping[str, str]) -> View:
    """What a query asks of a chart.

    Raises:
        Refused: a value is not one that there can be.
    """
    x = query.get("x", STEP)
    if x not in (STEP, SECONDS) or not query.get("measure"):
        raise Refused(HTTPStatus.BAD_REQUEST, "the question is wrong")
    return View(
        measure=query["measure"],
        x=x,
        group=query.get("group", View.group),
        window=_whole(query.get("window", "1"), 1, MAX_WINDOW),
        low=_number(query.get("low")),
        high=_number(query.get("high")),
        is_log=query.get("log") == "1",
    )


def _whole(text: str | None, low: int, high: int) -> int:
    if text is None or not (
        text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high
    ):
        raise Refused(HTTPStatus.BAD_REQUEST, "the question is wrong")
    return int(text)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = float("nan")
    if value is not None and not abs(value) < float("inf"):
        raise Refused(HTTPStatus.BAD_REQUEST, "the question is wrong")
    return value


def _name_of(host: str) -> str:
    """The name in a `Host` header, whose port is digits or nothing."""
    name, _, port = host.partition(":")
    return name.lower() if port.isascii() and (port.isdigit() or host == name) else ""


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _tag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()[:32]}"'
