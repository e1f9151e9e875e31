"""A server of one page: on this machine alone, and for who knows its address.

Each request is asked four things before it is answered, and is refused when it fails one of them:

- Did it come to 127.0.0.1 or localhost by name (`Host`)? A page of another site may point a name of its own
  to this machine, and would then read what is served (DNS rebinding).
- If a page sent it, was it our own (`Origin`, `Sec-Fetch-Site`)?
- Does its path begin with the token that was drawn when the server began? Other users of this machine can
  connect to it, too, but have not seen the address.
- Is it one of the few paths that there are? None names a file, so none can name a wrong one.

A page may also post, where its server takes that: JSON of at most `MAX_POSTED` bytes, said to be JSON,
which no form of another site can send.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import BoundedSemaphore
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from nanollama.errors import UserError
from nanollama.measures import finite

ADDRESS = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
"""Of this machine; the port may be another one, as behind `ssh -L`."""
SECONDS_TO_ASK = 10.0
MAX_AT_A_TIME = 16
MAX_POSTED = 16_384
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
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8"}
KINDS[".js"] = "text/javascript; charset=utf-8"
SHARED = {
    "page.css": ("report", "page.css"),
    "elements.js": ("report", "elements.js"),
    "parts.js": ("serving", "parts.js"),
}
"""By path: the package and the name of files that every page has."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of the reply.
        why: in a few words, none of them the request's own.
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


WRONG = "the question is wrong"


@dataclass(frozen=True)
class Reply:
    """What is sent: a body, its kind, and a tag that changes when it does, where one is needed."""

    body: bytes
    kind: str = JSON
    tag: str = ""


class LocalServer(ThreadingHTTPServer):
    """Serves the files of a page, and answers what it asks.

    Args:
        port: 0 for any that is free.

    Raises:
        UserError: the port cannot be had.
    """

    daemon_threads = True
    FILES: ClassVar[Mapping[str, tuple[str, str]]]
    """By path, "" being the page: the package of ours and the name of each file beside those of all pages."""
    POSTS: ClassVar[frozenset[str]] = frozenset()
    """Paths that are posted to, and only that."""

    def __init__(self, port: int) -> None:
        self.token = secrets.token_urlsafe(18)
        self.at_a_time = BoundedSemaphore(MAX_AT_A_TIME)
        self.files = {
            path: Reply((resources.files(f"nanollama.{package}") / name).read_bytes(), _kind(name))
            for path, (package, name) in {**SHARED, **self.FILES}.items()
        }
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"Port {port} of {ADDRESS} cannot be used ({error}): name another with --port, or none."
            ) from error

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    @abstractmethod
    def answer(self, path: str, query: Mapping[str, str], known: str | None) -> Reply:
        """The reply to a question of the page.

        Args:
            path: behind the token, none of a file.
            query: what exactly is asked.
            known: the tag of the answer that the page has; where it would be the same, it need not be made.

        Raises:
            Refused: there is no such thing, or the question is wrong.
        """

    def take(self, path: str, posted: Any) -> Reply:
        """The reply to JSON that is posted to one of `POSTS`.

        Raises:
            Refused: it is not what is expected.
        """
        raise Refused(HTTPStatus.NOT_FOUND, "nothing is here")

    def serve(self, what: str) -> None:
        """Say where the page is, and serve it until Ctrl-C."""
        print(f"{what} at {self.url}")
        print(
            f"From another machine: ssh -L {self.server_port}:{ADDRESS}:{self.server_port} HOST, then this "
            "address. Ctrl-C ends.",
            flush=True,
        )
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            print()

    def server_bind(self) -> None:
        """As the base class, but without asking anybody for the name of this machine."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As the base class, but say nothing of a page that was closed before it had its answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    timeout = SECONDS_TO_ASK
    server_version, sys_version = "nanollama", ""

    def do_GET(self) -> None:
        """Answer, or say in a word why not."""
        self._reply(self._got)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """The same of what is posted, where a server takes that."""
        if self.server.POSTS:
            self._reply(self._posted)
        else:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the user's."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As `Refused`: what the base class says repeats the request."""
        self._send(HTTPStatus(code), Reply(HTTPStatus(code).phrase.encode(), TEXT))

    def _reply(self, ask: Callable[[str, dict[str, str]], Reply]) -> None:
        with self.server.at_a_time:
            try:
                reply = ask(*self._admit())
            except Refused as refused:
                self._send(refused.status, Reply(refused.why.encode(), TEXT))
            else:
                if reply.tag and reply.tag == self.headers.get("If-None-Match"):
                    self._send(HTTPStatus.NOT_MODIFIED, Reply(b"", reply.kind, reply.tag))
                else:
                    self._send(HTTPStatus.OK, reply)

    def _got(self, path: str, query: dict[str, str]) -> Reply:
        if path in self.server.POSTS:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "this is posted to")
        if path in self.server.files:
            return self.server.files[path]
        return self.server.answer(path, query, self.headers.get("If-None-Match"))

    def _posted(self, path: str, query: dict[str, str]) -> Reply:
        if path not in self.server.POSTS or query:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing is here")
        if self.headers.get_all("Content-Type", []) != [JSON]:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "this is no JSON")
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) != 1 or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "how much is it?")
        if len(lengths[0]) > len(str(MAX_POSTED)) or whole(lengths[0], 0, 10**9) > MAX_POSTED:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this is too much")
        try:
            posted = json.loads(self.rfile.read(int(lengths[0])).decode())
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, WRONG) from None
        return self.server.take(path, posted)

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
            raise Refused(HTTPStatus.BAD_REQUEST, WRONG) from None
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


def whole(text: str | None, low: int, high: int) -> int:
    """A whole number of a query.

    Raises:
        Refused: it is none, or not between these two.
    """
    if text is None or not (
        text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high
    ):
        raise Refused(HTTPStatus.BAD_REQUEST, WRONG)
    return int(text)


def to_json(value: Any) -> bytes:
    """As it is sent; what is no finite number, which JSON has no word for, is null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, separators=(",", ":")).encode()


def tag_of(data: bytes) -> str:
    """What changes when the data do."""
    return f'"{sha256(data).hexdigest()[:32]}"'


def _name_of(host: str) -> str:
    """The name in a `Host` header, whose port is digits or nothing."""
    name, _, port = host.partition(":")
    return name.lower() if port.isascii() and (port.isdigit() or host == name) else ""


def _kind(name: str) -> str:
    return KINDS[name[name.rindex(".") :]]
