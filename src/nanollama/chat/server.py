"""The server of the page: what `nanollama.serving` admits, one question at a time."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from nanollama.chat.conversation import MAX_CHARS, Busy, Conversation
from nanollama.chat.speaker import Speaker
from nanollama.serving.server import WRONG, LocalServer, Refused, Reply, to_json, whole

MAX_NUMBER = 10**8


class ChatServer(LocalServer):
    """Serves a conversation with a model.

    Args:
        speaker: who is asked.
        port: 0 for any that is free.

    Raises:
        UserError: the port cannot be had.
    """

    FILES: ClassVar = {
        "": ("chat", "chat.html"),
        "chat.css": ("chat", "chat.css"),
        "chat.js": ("chat", "chat.js"),
    }
    POSTS = frozenset({"api/ask"})

    def __init__(self, speaker: Speaker, port: int) -> None:
        self.conversation = Conversation(speaker)
        super().__init__(port)

    def answer(self, path: str, query: Mapping[str, str], known: str | None) -> Reply:
        """See the base class."""
        if path == "api/about":
            return Reply(to_json(self.conversation.about()))
        if path == "api/look":
            dialog, place, layer = (
                whole(query.get(key), 0, MAX_NUMBER) for key in ("dialog", "place", "layer")
            )
            if layer >= max(1, len(self.conversation.about()["layers"])):
                raise Refused(HTTPStatus.BAD_REQUEST, WRONG)
            try:
                return Reply(to_json(self.conversation.look(dialog, place, layer)))
            except KeyError:
                raise Refused(HTTPStatus.NOT_FOUND, "this dialog is not kept") from None
            except Busy:
                raise _busy() from None
        raise Refused(HTTPStatus.NOT_FOUND, "nothing is here")

    def take(self, path: str, posted: Any) -> Reply:
        """See the base class: ``{"text": ...}``, a question of at most `MAX_CHARS` characters."""
        text = posted.get("text") if isinstance(posted, dict) and len(posted) == 1 else None
        if not isinstance(text, str) or not text.strip() or not _is_text(text):
            raise Refused(HTTPStatus.BAD_REQUEST, WRONG)
        if len(text) > MAX_CHARS:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a question has {MAX_CHARS} characters at most"
            )
        try:
            return Reply(to_json(self.conversation.ask(text.strip())))
        except Busy:
            raise _busy() from None


def _busy() -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "another question is being answered: ask again")


def _is_text(text: str) -> bool:
    """Can it be stored? Halves of surrogate pairs cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
