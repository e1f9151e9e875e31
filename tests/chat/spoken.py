"""Models that are talked to on a page: of toy dialogs, with a tool, and one that never ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

from nanollama.chat.server import ChatServer
from nanollama.chat.speaker import Speaker, Verdict
from nanollama.dialogs.generate import Completion
from nanollama.model.protocol import LanguageModel
from tests.toy_dialogs import FACTS, TOKENIZER, FactTool, scripted_model, toy_model

EVIL = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


class EvilTool(FactTool):
    """Replies HTML."""

    def who(self, request: str) -> str:
        return "calculator"

    def __init__(self) -> None:
        super().__init__({**FACTS, "a": EVIL})


def speaker(model: LanguageModel | None = None, tool: FactTool | None = None) -> Speaker:
    """Asked about letters; a blank between letters asks about each."""

    def judge(question: str, completion: Completion) -> Verdict | None:
        if question not in FACTS:
            return None
        said = TOKENIZER.decode_dialog(completion.ids)[-1].content
        return Verdict(FACTS[question], "a letter", said == f"{question}: {FACTS[question]}.")

    return Speaker(
        f"a toy {EVIL}",
        [("known", "a"), ("unknown", "z")],
        toy_model(100) if model is None else model,
        TOKENIZER,
        FactTool() if tool is None else tool,
        48,
        str.split,
        judge,
    )


def endless() -> Speaker:
    """One that says x for ever."""
    return speaker(scripted_model({"<assistant>": "x", "x": "x"}))


def get(server: ChatServer, path: str) -> tuple[int, Any]:
    """Status and JSON of a reply."""
    return _request(server, "GET", path, None, {})


def post(server: ChatServer, text: str) -> tuple[int, Any]:
    """Status and dialogs of a question."""
    body = json.dumps({"text": text})
    return _request(server, "POST", "api/ask", body, {"Content-Type": "application/json"})


def _request(
    server: ChatServer, method: str, path: str, body: str | None, headers: Mapping[str, str]
) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        connection.request(method, f"/{server.token}/{path}", body, dict(headers))
        reply = connection.getresponse()
        said = reply.read()
        is_json = reply.headers["Content-Type"] == "application/json"
        return reply.status, json.loads(said) if is_json else said.decode()
    finally:
        connection.close()
