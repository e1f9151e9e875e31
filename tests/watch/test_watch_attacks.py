"""What others may try on the page: other sites, other users, and what runs, configs and models wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from watched_runs import append, followed, get, served, write_run

from nanollama.errors import UserError
from nanollama.watch.columns import MAX_NAMES, Columns
from nanollama.watch.server import WatchServer
from tests.page_attacks import ATTACKS, Attack, attack, each, no_html_is_made, send

SECRET = "root:x:0:0"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\"'&"
CURVES = "/TOKEN/api/curves?measure=loss"

REQUESTS: list[Attack] = [
    *ATTACKS,
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
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchServer]:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "good")
    with served(followed(folder)) as server:
        yield server


@each(REQUESTS)
def test_a_request_that_is_not_the_pages_own_learns_nothing(
    server: WatchServer, line: str, headers: str, status: int
) -> None:
    said = attack(server, line, headers, status, "api/curves?measure=loss")
    assert b"good" not in said
    if status == 200:
        assert said == b"[]" or b'"runs":[0]' in said


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
    reply = send(server, f"GET /{server.token}/api/state HTTP/1.0\r\nHost: localhost:9999\r\n"
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


def config(text: str) -> Callable[[Path, str], None]:
    def write(run: Path, name: str) -> None:
        (run / name).write_text(text)

    return write


METRICS = "metrics.jsonl"
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
    ("4,000 names of numbers", rows(*(f'{{"step": {n}, "n{n}": 1}}' for n in range(401, 4401))), METRICS),
    ("a number of 5,000 digits", rows('{"step": 401, "loss": ' + "9" * 5000 + "}"), "metrics.jsonl"),
    ("a number of 400 digits", rows('{"step": 401, "loss": ' + "9" * 400 + "}"), "metrics.jsonl"),
    ("a time without end", rows('{"step": 401, "loss": 1, "elapsed_seconds": 1e308}'), "metrics.jsonl"),
    ("a step of 400 digits", rows('{"step": ' + "9" * 400 + ', "loss": 1}'), "metrics.jsonl"),
    ("no number", rows('{"step": 401, "loss": NaN, "lr": Infinity}'), "metrics.jsonl"),
    ("a list for a number", rows('{"step": 401, "loss": [1], "lr": {"a": 1}}'), "metrics.jsonl"),
    ("brackets without end", rows("[" * 100_000), "metrics.jsonl"),
    ("letters that are none", rows('{"step": 401, "loss": 1, "\\ud800": 1}'), "metrics.jsonl"),
    ("a result that is a list", rows("[[[1]]]"), "result.json"),
    ("a result without end", config('{"status": "finished", "step": Infinity}'), "result.json"),
    ("samples that are no numbers", rows('{"step": 1, "prompt": "a", "loss": NaN}'), "samples.jsonl"),
    ("a result of brackets without end", rows("[" * 100_000), "result.json"),
    ("dialogs of brackets without end", rows("[" * 100_000), "dialogs.jsonl"),
    ("a config that names itself", config("a: &x [*x]"), "config.yaml"),
    ("a config of a number of 5,000 digits", config("n: " + "9" * 5000), "config.yaml"),
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


def test_no_file_has_more_names_than_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    names = [f"n{number}" for number in range(MAX_NAMES + 9)]
    path.write_text("".join(json.dumps({"step": n, name: n}) + "\n" for n, name in enumerate(names)))
    columns = Columns(path)
    assert columns.read()
    assert len(columns.names) == MAX_NAMES - 1  # and the step
    assert columns.array("n7")[7] == 7 and np.isnan(columns.array("n7")[[6, 8]]).all()
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{METRICS} has more than 2,000 names"):
            columns.check_names()
        assert not columns.read()
    path.write_text('{"step": 1, "loss": 2}\n')
    assert columns.read() and columns.names == ["loss"]
    columns.check_names()


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
        no_html_is_made(get(server, path)[1].decode())
