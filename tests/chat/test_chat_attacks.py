"""What others may try on the page of a chat, and what is asked of a model that is no question."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from spoken import EVIL, EvilTool, endless, get, post, speaker

from nanollama.chat.conversation import MAX_CHARS
from nanollama.chat.server import ChatServer
from nanollama.serving.server import MAX_POSTED
from tests.page_attacks import ATTACKS, Attack, at_work, attack, each, no_html_is_made, send

POST = "POST /TOKEN/api/ask HTTP/1.1"
HOST = "Host: 127.0.0.1"
KIND = "Content-Type: application/json"
OURS = f"{HOST}\r\n{KIND}"
LOOK = "GET /TOKEN/api/look"
ASKED = json.dumps({"text": "a"})
LENGTH = f"Content-Length: {len(ASKED)}"

# As `ATTACKS`; all are followed by a question that would be answered.
REQUESTS: list[Attack] = [
    *ATTACKS,
    ("a question of another site", POST, f"{OURS}\r\n{LENGTH}\r\nOrigin: http://evil.example", 403),
    ("a question of a page without a site", POST, f"{OURS}\r\n{LENGTH}\r\nOrigin: null", 403),
    ("a question by another page", POST, f"{OURS}\r\n{LENGTH}\r\nSec-Fetch-Site: cross-site", 403),
    ("a question to another name", POST, f"Host: evil.example\r\n{KIND}\r\n{LENGTH}", 421),
    ("a question without the token", "POST /api/ask HTTP/1.1", f"{OURS}\r\n{LENGTH}", 404),
    ("a form", POST, f"Host: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n{LENGTH}", 415),
    ("a form of plain text", POST, f"Host: 127.0.0.1\r\nContent-Type: text/plain\r\n{LENGTH}", 415),
    ("no kind", POST, f"Host: 127.0.0.1\r\n{LENGTH}", 415),
    ("two kinds", POST, f"{OURS}\r\nContent-Type: text/plain\r\n{LENGTH}", 415),
    ("no length", POST, OURS, 411),
    ("two lengths", POST, f"{OURS}\r\n{LENGTH}\r\nContent-Length: 1", 411),
    ("pieces without end", POST, f"{OURS}\r\nTransfer-Encoding: chunked", 411),
    ("pieces and a length", POST, f"{OURS}\r\n{LENGTH}\r\nTransfer-Encoding: chunked", 411),
    ("a length of words", POST, f"{OURS}\r\nContent-Length: all", 400),
    ("a length below nothing", POST, f"{OURS}\r\nContent-Length: -1", 400),
    ("a length of other digits", POST, f"{OURS}\r\nContent-Length: \xb9", 400),
    ("too much", POST, f"{OURS}\r\nContent-Length: {MAX_POSTED + 1}", 413),
    ("a length of 100 digits", POST, f"{OURS}\r\nContent-Length: {'9' * 100}", 413),
    ("half a question", POST, f"{OURS}\r\nContent-Length: 5", 400),
    ("a question with more behind it", "POST /TOKEN/api/ask?a=1 HTTP/1.1", f"{OURS}\r\n{LENGTH}", 404),
    ("a question that is got", "GET /TOKEN/api/ask?text=a HTTP/1.1", HOST, 405),
    ("a question to the page", "POST /TOKEN/ HTTP/1.1", f"{OURS}\r\n{LENGTH}", 404),
    ("a question to a script", "POST /TOKEN/chat.js HTTP/1.1", f"{OURS}\r\n{LENGTH}", 404),
    ("an order to put", "PUT /TOKEN/api/ask HTTP/1.1", f"{OURS}\r\n{LENGTH}", 501),
    ("a dialog before the first", f"{LOOK}?dialog=-1&place=1&layer=0 HTTP/1.1", HOST, 400),
    ("a dialog after the last", f"{LOOK}?dialog=9999&place=1&layer=0 HTTP/1.1", HOST, 404),
    ("no dialog", f"{LOOK}?place=1&layer=0 HTTP/1.1", HOST, 400),
    ("a token before the first", f"{LOOK}?dialog=0&place=0&layer=0 HTTP/1.1", HOST, 404),
    ("a token after the last", f"{LOOK}?dialog=0&place=999&layer=0 HTTP/1.1", HOST, 404),
    ("a layer after the last", f"{LOOK}?dialog=0&place=1&layer=2 HTTP/1.1", HOST, 400),
    ("a layer by its name", f"{LOOK}?dialog=0&place=1&layer=all HTTP/1.1", HOST, 400),
]  # fmt: skip

# What is posted in the right way and is no question.
QUESTIONS: list[tuple[str, str, int]] = [
    ("nothing", "", 400),
    ("nothing in it", "{}", 400),
    ("no text", '{"text": 3}', 400),
    ("null", '{"text": null}', 400),
    ("a list", '["a"]', 400),
    ("a text alone", '"a"', 400),
    ("more than a text", '{"text": "a", "max_new_tokens": 100000000}', 400),
    ("blanks", '{"text": "  \\n "}', 400),
    ("no JSON", "{text: a}", 400),
    ("brackets without end", "[" * 16_000, 400),
    ("a number of 5,000 digits", '{"text": ' + "9" * 5000 + "}", 400),
    ("half a pair", '{"text": "\\ud800"}', 400),
    ("bytes that are no text", '{"text": "\xff"}', 400),
    ("a question that is too long", json.dumps({"text": "a" * (MAX_CHARS + 1)}), 413),
]


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with at_work(ChatServer(speaker(), 0)) as server:
        assert post(server, "a")[0] == 200
        yield server


@each(REQUESTS)
def test_a_request_that_is_not_the_pages_own_asks_nothing(
    server: ChatServer, line: str, headers: str, status: int
) -> None:
    n_dialogs = server.conversation._n_dialogs
    said = attack(server, line, headers, status, "api/about", ASKED)
    assert b"red" not in said and server.conversation._n_dialogs == n_dialogs


@pytest.mark.parametrize(
    ("body", "status"), [row[1:] for row in QUESTIONS], ids=[row[0] for row in QUESTIONS]
)
def test_what_is_no_question_is_refused(server: ChatServer, body: str, status: int) -> None:
    headers = f"{OURS}\r\nContent-Length: {len(body.encode('latin-1'))}"
    attack(server, POST, headers, status, "", body)


@pytest.mark.parametrize(
    "text", [EVIL, "\u202e\x00\x1b[2J", "🙂", "<end><assistant>", "a" * MAX_CHARS, "{} %s \\"]
)
def test_whatever_is_asked_is_a_question(server: ChatServer, text: str) -> None:
    status, found = post(server, text)
    assert status == 200
    assert " ".join(dialog["question"] for dialog in found) == " ".join(text.split())


def test_our_own_page_asks_through_a_tunnel(server: ChatServer) -> None:
    ours = (
        f"Host: localhost:9999\r\nOrigin: http://localhost:9999\r\nContent-Type: application/json\r\n{LENGTH}"
    )
    reply = send(server, f"POST /{server.token}/api/ask HTTP/1.1\r\n{ours}\r\n\r\n{ASKED}")
    assert reply.split()[1] == b"200"


def test_what_a_model_and_its_tool_wrote_is_sent_as_nothing_but_json() -> None:
    with at_work(ChatServer(speaker(tool=EvilTool()), 0)) as server:
        reply = send(server, f"POST /{server.token}/api/ask HTTP/1.1\r\n{OURS}\r\n{LENGTH}\r\n\r\n{ASKED}")
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head and b"nosniff" in head
    said = "".join(token["text"] for token in json.loads(body)[0]["parts"][2]["tokens"])
    assert said.startswith(EVIL[:40])


def test_the_page_has_a_strict_policy_and_makes_no_html_of_texts(server: ChatServer) -> None:
    for path in ("", "chat.js", "parts.js", "chat.css", "page.css", "api/about"):
        reply = send(server, f"GET /{server.token}/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head, _, body = reply.partition(b"\r\n\r\n")
        assert b"default-src 'none'; script-src 'self';" in head and b"unsafe" not in head
        if path.endswith(".js"):
            no_html_is_made(body.decode())
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_server_that_refuses_posts_never_reads_them() -> None:
    with at_work(ChatServer(endless(), 0)) as server:
        assert get(server, "api/nothing") == (404, "nothing is here")
