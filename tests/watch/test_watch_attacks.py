"""What others may try on the page: other sites, other users, and what runs, configs and models wrote."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from watched_runs import append, followed, get, served, write_run

from nanollama.watch.server import WatchServer

SECRET = "root:x:0:0"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\"'&"
CURVES = "/TOKEN/api/curves?measure=loss"

# A name for each, the first line of the request, its headers, and the status of the reply, if it has a head.
REQUESTS: list[tuple[str, str, str, int]] = [
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
        f"GET {CURVES} HTTP/1.1",
        "Host: 127.0.0.1\r\nOrigin: http://evil.example",
        403,
    ),
    ("a page without a site", f"GET {CURVES} HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: null", 403),
    (
        "another port of this machine",
        f"GET {CURVES} HTTP/1.1",
        "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:1",
        403,
    ),
    (
        "an origin that begins like ours",
        f"GET {CURVES} HTTP/1.1",
        "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1.evil",
        403,
    ),
    ("another protocol", f"GET {CURVES} HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: https://127.0.0.1", 403),
    (
        "an image of another site",
        f"GET {CURVES} HTTP/1.1",
        "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site",
        403,
    ),
    (
        "a script of another port",
        "GET /TOKEN/watch.js HTTP/1.1",
        "Host: 127.0.0.1\r\nSec-Fetch-Site: same-site",
        403,
    ),
    ("no token", "GET / HTTP/1.1", "Host: 127.0.0.1", 404),
    ("no token before a question", "GET /api/state HTTP/1.1", "Host: 127.0.0.1", 404),
    ("an empty token", "GET //api/state HTTP/1.1", "Host: 127.0.0.1", 404),
    ("half a token", "GET /HALF/api/state HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a longer token", "GET /TOKENx/api/state HTTP/1.1", "Host: 127.0.0.1", 404),
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
    ("a file of a run", "GET /TOKEN/good/config.yaml HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a question that there is not", "GET /TOKEN/api/delete?number=0 HTTP/1.1", "Host: 127.0.0.1", 404),
    ("a run by its path", "GET /TOKEN/api/run?number=/etc HTTP/1.1", "Host: 127.0.0.1", 400),
    ("a run before the first", "GET /TOKEN/api/run?number=-1 HTTP/1.1", "Host: 127.0.0.1", 400),
    ("a run after the last", "GET /TOKEN/api/run?number=999 HTTP/1.1", "Host: 127.0.0.1", 400),
    ("a run of other digits", "GET /TOKEN/api/run?number=%D9%A1 HTTP/1.1", "Host: 127.0.0.1", 400),
    ("no run", "GET /TOKEN/api/run HTTP/1.1", "Host: 127.0.0.1", 400),
    ("an endless mean", f"GET {CURVES}&window=9999999999999999 HTTP/1.1", "Host: 127.0.0.1", 400),
    ("a place that is no number", f"GET {CURVES}&low=nan HTTP/1.1", "Host: 127.0.0.1", 400),
    ("a place without end", f"GET {CURVES}&high=1e999 HTTP/1.1", "Host: 127.0.0.1", 400),
    ("an axis that there is not", f"GET {CURVES}&x=__class__ HTTP/1.1", "Host: 127.0.0.1", 400),
    ("a thousand keys", f"GET {CURVES}{'&a=1' * 1000} HTTP/1.1", "Host: 127.0.0.1", 400),
    (
        "a measure that there is not",
        "GET /TOKEN/api/curves?measure=__init__ HTTP/1.1",
        "Host: 127.0.0.1",
        200,
    ),
    ("a group that there is not", f"GET {CURVES}&group=__dict__ HTTP/1.1", "Host: 127.0.0.1", 200),
    ("an order to write", "POST /TOKEN/api/state HTTP/1.1", "Host: 127.0.0.1", 501),
    ("an order to remove", "DELETE /TOKEN/ HTTP/1.1", "Host: 127.0.0.1", 501),
    ("a question before a question of another site", "OPTIONS /TOKEN/ HTTP/1.1", "Host: 127.0.0.1", 501),
    ("a tunnel", "CONNECT evil.example:443 HTTP/1.1", "Host: 127.0.0.1", 501),
    ("a path of 100,000 letters", f"GET /{'a' * 100_000} HTTP/1.1", "Host: 127.0.0.1", 414),
    ("a thousand headers", "GET /TOKEN/ HTTP/1.1", "Host: 127.0.0.1\r\n" + "A: b\r\n" * 1000, 431),
    ("no HTTP", "\x16\x03\x01 nothing of it", "", 0),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchServer]:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "good")
    with served(followed(folder)) as server:
        yield server


def ask(server: WatchServer, text: str) -> bytes:
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


@pytest.mark.parametrize(
    ("line", "headers", "status"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_a_request_that_is_not_the_pages_own_learns_nothing(
    server: WatchServer, line: str, headers: str, status: int
) -> None:
    text = f"{line}\r\n{headers}\r\n\r\n".replace("HALF", server.token[:12]).replace("TOKEN", server.token)
    reply = ask(server, text.replace("PORT", str(server.server_port)))
    if not reply and status in (414, 431):
        return  # closed before all was read, and the reply was lost with the connection
    head, _, body = reply.partition(b"\r\n\r\n")
    if not status:  # of the oldest protocol, replies have no head
        assert reply in (b"this is served to 127.0.0.1 alone", b"Bad Request")
        return
    assert head.split()[1] == str(status).encode()
    if status == 200:
        assert body == b"[]" or b'"runs":[0]' in body
        return
    assert len(body) < 100 and b"good" not in body and server.token.encode() not in reply
    assert b"evil" not in reply and b"Access-Control" not in reply


def test_there_are_fifty_of_them() -> None:
    assert len(REQUESTS) >= 50


def test_the_page_itself_is_answered_with_a_strict_policy(server: WatchServer) -> None:
    for path in ("", "watch.js", "chart.js", "parts.js", "page.css", "watch.css", "api/state"):
        status, body, headers = get(server, path)
        assert status == 200 and body
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';") and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_nobody_else_can_connect(server: WatchServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with served(server.watched) as other:
        assert other.token != server.token and len(server.token) == 24


def test_an_answer_that_would_be_the_same_is_not_sent_again(server: WatchServer) -> None:
    for path in ("api/state", "api/curves?measure=loss"):
        _, _, headers = get(server, path)
        status, body, _ = get(server, path, **{"If-None-Match": headers["ETag"]})
        assert (status, body) == (304, b"")


def test_our_own_page_may_be_reached_by_a_tunnel(server: WatchServer) -> None:
    reply = ask(server, f"GET /{server.token}/api/state HTTP/1.0\r\nHost: localhost:9999\r\n"
                "Origin: http://localhost:9999\r\nSec-Fetch-Site: same-origin\r\n\r\n")  # fmt: skip
    assert reply.split()[1] == b"200"


def link_out(run: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    (run.parents[1] / "outside.txt").write_text(f'{SECRET}\n{{"step": 1, "loss": 1234567.0}}\n')
    (run / name).symlink_to(run.parents[1] / "outside.txt")


def link_run_out(run: Path, _: str) -> None:
    other = write_run(run.parents[1] / "outside" / SECRET)
    (run.parent / "link").symlink_to(other)


def pipe(run: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)


def rows(*lines: str) -> Callable[[Path, str], None]:
    def write(run: Path, name: str) -> None:
        with (run / name).open("a") as file:
            file.writelines(line + "\n" for line in lines)

    return write


FOLDERS: list[tuple[str, Callable[[Path, str], None], str]] = [
    ("a log that is a link to elsewhere", link_out, "log.txt"),
    ("an output that is a link to elsewhere", link_out, "output.txt"),
    ("rows that are a link to elsewhere", link_out, "metrics.jsonl"),
    ("a config that is a link to elsewhere", link_out, "config.yaml"),
    ("dialogs that are a link to elsewhere", link_out, "dialogs.jsonl"),
    ("a result that is a link to elsewhere", link_out, "result.json"),
    ("a run that is a link to elsewhere", link_run_out, ""),
    ("rows that are a pipe, which nobody writes to", pipe, "metrics.jsonl"),
    ("a log that is a pipe", pipe, "log.txt"),
    ("a lock that is a pipe", pipe, ".lock"),
    ("a number of 5,000 digits", rows('{"step": 401, "loss": ' + "9" * 5000 + "}"), "metrics.jsonl"),
    ("a number of 400 digits", rows('{"step": 401, "loss": ' + "9" * 400 + "}"), "metrics.jsonl"),
    ("a time without end", rows('{"step": 401, "loss": 1, "elapsed_seconds": 1e308}'), "metrics.jsonl"),
    ("a step of 400 digits", rows('{"step": ' + "9" * 400 + ', "loss": 1}'), "metrics.jsonl"),
    ("no number", rows('{"step": 401, "loss": NaN, "lr": Infinity}'), "metrics.jsonl"),
    ("a list for a number", rows('{"step": 401, "loss": [1], "lr": {"a": 1}}'), "metrics.jsonl"),
    ("brackets without end", rows("[" * 100_000), "metrics.jsonl"),
    ("letters that are none", rows('{"step": 401, "loss": 1, "\\ud800": 1}'), "metrics.jsonl"),
    ("a result that is a list", rows("[[[1]]]"), "result.json"),
    ("an attempt of nonsense", rows('{"pid": "x", "exit_code": {}}'), "launch.json"),
]


@pytest.mark.parametrize(("spoil", "name"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
def test_a_folder_that_somebody_has_prepared_shows_nothing_else_and_stops_nothing(
    tmp_path: Path, spoil: Callable[[Path, str], None], name: str
) -> None:
    write_run(tmp_path / "runs" / "good")
    spoil(write_run(tmp_path / "runs" / "bad"), name)
    with served(followed(tmp_path / "runs")) as server:
        for group in ("run", "setting"):
            assert get(server, f"api/curves?measure=loss&group={group}")[0] == 200
        replies = [get(server, path) for path in ("api/state", "api/run?number=0", "api/run?number=1")]
        replies.append(get(server, "api/curves?measure=loss"))
    assert [status for status, *_ in replies] == [200] * 4
    assert not any(SECRET.encode() in body or b"1234567" in body for _, body, _ in replies)
    state = json.loads(replies[0][1])
    assert {run["name"] for run in state["runs"]} == {"good", "bad"}
    assert len(json.loads(replies[3][1])[-1]["x"]) == 40


def test_what_a_run_wrote_is_sent_as_it_is_and_as_nothing_but_json(tmp_path: Path) -> None:
    run = write_run(tmp_path / "x", name=EVIL).rename(tmp_path / EVIL.replace("/", ""))
    (run / "log.txt").write_text(EVIL)
    append(run / "metrics.jsonl", {"step": 401, EVIL: 1.0})
    with served(followed(tmp_path)) as server:
        status, body, headers = get(server, "api/state")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert EVIL in json.loads(body)["measures"]
        assert json.loads(get(server, "api/run?number=0")[1])["log"] == [EVIL]


def test_no_text_becomes_html_in_the_scripts(server: WatchServer) -> None:
    for path in ("watch.js", "chart.js", "parts.js", "elements.js"):
        script = get(server, path)[1].decode()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "DOMParser",
            "http:",
        ):
            assert word not in script.replace("http://www.w3.org/2000/svg", "")
