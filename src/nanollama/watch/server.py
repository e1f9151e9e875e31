"""The server of the page: what `nanollama.serving` admits, and for reading alone."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from nanollama.serving.server import WRONG, LocalServer, Refused, Reply, tag_of, to_json, whole
from nanollama.watch.columns import STEP
from nanollama.watch.series import SECONDS, View
from nanollama.watch.watched import Watched

MAX_WINDOW = 100_000


class WatchServer(LocalServer):
    """Serves what is followed.

    Args:
        watched: what is served.
        port: 0 for any that is free.

    Raises:
        UserError: the port cannot be had.
    """

    FILES: ClassVar = {
        "": ("watch", "watch.html"),
        **{name: ("watch", name) for name in ("watch.css", "watch.js", "chart.js")},
    }

    def __init__(self, watched: Watched, port: int) -> None:
        self.watched = watched
        super().__init__(port)

    def answer(self, path: str, query: Mapping[str, str], known: str | None) -> Reply:
        """See the base class."""
        if path == "api/run":
            number = whole(query.get("number"), 0, len(self.watched.runs) - 1)
            return Reply(to_json(self.watched.details(number)))
        if path == "api/state":
            self.watched.refresh()
            body = to_json(self.watched.state())
            return Reply(body, tag=tag_of(body))
        if path == "api/curves":
            view = read_view(query)
            self.watched.refresh()
            tag = tag_of(f"{self.watched.n_changes} {view}".encode())
            return Reply(b"" if known == tag else to_json(self.watched.curves(view)), tag=tag)
        raise Refused(HTTPStatus.NOT_FOUND, "nothing is here")


def read_view(query: Mapping[str, str]) -> View:
    """What a query asks of a chart.

    Raises:
        Refused: a value is not one that there can be.
    """
    x = query.get("x", STEP)
    if x not in (STEP, SECONDS) or not query.get("measure"):
        raise Refused(HTTPStatus.BAD_REQUEST, WRONG)
    return View(
        measure=query["measure"],
        x=x,
        group=query.get("group", View.group),
        window=whole(query.get("window", "1"), 1, MAX_WINDOW),
        low=_number(query.get("low")),
        high=_number(query.get("high")),
        is_log=query.get("log") == "1",
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = float("nan")
    if value is not None and not abs(value) < float("inf"):
        raise Refused(HTTPStatus.BAD_REQUEST, WRONG)
    return value
