"""Hand-made run folders, and a page of them that is served, for tests of `nanollama watch`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from nanollama.watch.server import WatchServer
from nanollama.watch.watched import Watched
from tests.page_attacks import at_work


def write_run(folder: Path, *, seed: int = 0, d_model: int = 16, n_rows: int = 40, name: str = "") -> Path:
    """A run of rows of training every ten steps, and four evaluations of an accuracy with its interval."""
    folder.mkdir(parents=True)
    config = {"study": "toy", "name": name or folder.name, "model": {"d_model": d_model}}
    config["training"] = {"seed": seed, "n_steps": n_rows * 10}  # JSON is YAML
    (folder / "config.yaml").write_text(json.dumps(config))
    random_source = random.Random(f"{seed} {d_model}")
    for number in range(1, n_rows + 1):
        loss = 8 / number + random_source.random() * 16 / d_model
        append(folder / "metrics.jsonl", {"step": number * 10, "loss": loss, "elapsed_seconds": number / 2})
    for number in range(1, 5):
        share = number / 5 + random_source.random() / 20
        row = {"step": number * n_rows * 10 // 4, "accuracy": share, "accuracy_low": share - 0.05}
        append(folder / "evals.jsonl", {**row, "accuracy_high": share + 0.05})
    return folder


def append(path: Path, row: Mapping[str, Any]) -> None:
    """A row more."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """All rows of a file, read by nothing of the library."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def followed(*folders: Path) -> Watched:
    """What is followed, all of it read."""
    watched = Watched(folders)
    watched.read_all()
    return watched


@contextmanager
def served(watched: Watched) -> Iterator[WatchServer]:
    """A server at work."""
    with at_work(WatchServer(watched, 0)) as server:
        yield server


def get(server: WatchServer, path: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers of a reply to a path behind the token."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.request("GET", f"/{server.token}/{path}", headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())
    finally:
        connection.close()
