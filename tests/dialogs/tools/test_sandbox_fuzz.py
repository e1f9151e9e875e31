"""Thousands of hostile requests: nothing changes, nothing appears, all replies are short and quick."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from agent_people import PEOPLE, fenced, write_people
from hostile_requests import HostileRequests

from nanollama.dialogs.tools import Limits, Tool
from nanollama.tokenizer import ByteTokenizer

N_QUICK, N_ALL = 2_000, 100_000
BATCH = 50
MAX_SECONDS = 1.0
MAX_MEGABYTES = 50
SECRETS = ("secret", "CREATE TABLE")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A database in its own folder, and an empty working folder; both must be found as they were left."""
    database, here = tmp_path / "data", tmp_path / "here"
    database.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    path = write_people(database / "people.sqlite", PEOPLE)
    before = sha256(path)
    yield path
    assert sha256(path) == before
    assert os.listdir(database) == ["people.sqlite"]
    assert os.listdir(here) == []


def requests(seed: int, language: str) -> Iterator[str]:
    return iter(HostileRequests(random.Random(seed), [person[0] for person in PEOPLE], language))


@pytest.mark.parametrize("language", ["find", "sql"])
@pytest.mark.parametrize("n_requests", [N_QUICK, pytest.param(N_ALL, marks=pytest.mark.slow)])
def test_hostile_requests_change_nothing_and_are_answered(
    path: Path, open_tool: Callable[..., Tool], language: str, n_requests: int
) -> None:
    tool = open_tool(path=path, language=language)
    kinds, slowest = ask_all(tool, islice(requests(n_requests, language), n_requests))
    assert slowest < MAX_SECONDS
    assert kinds.total() == n_requests
    assert min(kinds["value"], kinds["nothing"], kinds["error"]) > n_requests / 50  # the test has all sides


def test_without_the_first_fence_nothing_changes_either(
    path: Path, open_tool: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanollama.dialogs.tools.database.check_select", lambda request, config: None)
    tool = open_tool(path=path, language="sql")
    no_bombs = (request for request in requests(0, "sql") if "WITH t0" not in request)
    kinds, _ = ask_all(tool, islice(no_bombs, N_QUICK))
    assert kinds["value"] > N_QUICK / 10


def ask_all(tool: Tool, messages: Iterable[str]) -> tuple[Counter[str], float]:
    """Ask in batches and check every reply: how many there were of each kind, and the seconds of the slowest.

    Seconds are those of the processor, which other programs do not prolong. A batch is timed as a whole, so
    no reply took longer; the requests of a slow one are timed one by one.
    """
    stream = iter(messages)
    tokenizer = ByteTokenizer(("user", "assistant", "database"))
    max_bytes = Limits().max_reply_bytes
    kinds: Counter[str] = Counter()
    slowest = 0.0
    while batch := list(islice(stream, BATCH)):
        start = time.thread_time()
        replies = tool.reply(batch)
        seconds = time.thread_time() - start
        if seconds > MAX_SECONDS:
            seconds = max(seconds_of(tool, request) for request in batch)
        slowest = max(slowest, seconds)
        assert len(replies) == len(batch)
        for text, ok in replies:
            ids = tokenizer.encode(text)
            assert len(ids) <= max_bytes
            assert max(ids, default=0) < 256
            assert not any(secret in text for secret in SECRETS)
            kinds["value" if ok else "error" if text.startswith("error: ") else "nothing"] += 1
    return kinds, slowest


def seconds_of(tool: Tool, request: str) -> float:
    start = time.thread_time()
    tool.reply([request])
    return time.thread_time() - start


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is measured on Linux"
)
@pytest.mark.parametrize("language", ["find", "sql"])
def test_no_request_takes_much_memory(path: Path, open_tool: Callable[..., Tool], language: str) -> None:
    tool = open_tool(path=path, language=language)
    batch = [*greedy_selects(), *islice(requests(1, language), N_QUICK)]
    tool.reply(batch[-100:])
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before = peak_megabytes()
    replies = tool.answer(batch)
    assert peak_megabytes() - before < MAX_MEGABYTES
    assert language == "find" or "error: the query takes too long, ask for one name" in replies


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are listed on Linux")
def test_sorting_makes_no_temporary_file(
    path: Path, open_tool: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def look_around() -> float:
        """The clock of the tool, which it reads every some thousand steps."""
        for number in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                seen.add(os.readlink(f"/proc/self/fd/{number}"))
        return 0.0

    tool = open_tool(path=path, language="sql")
    monkeypatch.setattr(time, "thread_time", look_around)
    tool.reply(list(greedy_selects()))
    assert str(path) in seen
    assert not [name for name in seen if "etilqs" in name]  # what SQLite calls its temporary files


def greedy_selects() -> Iterator[str]:
    """SELECTs that would sort or tell apart as many rows, as wide, as they may."""
    one, two = "people name", "people name, people occupation"
    for tables, other in ((one, "name"), (two, "occupation"), (f"{two}, people birth_date", "birth_date")):
        for columns in (
            "name.name",
            f"name.name, {other}.name, '{'x' * 500}'",
            ", ".join(["name.name"] * 70),
        ):
            for order in ("", " ORDER BY 1", f" ORDER BY name.birth_date, {other}.birth_place DESC"):
                yield fenced(f"SELECT {columns} FROM {tables}{order}")
                yield fenced(f"SELECT DISTINCT {columns} FROM {tables}{order}")


def peak_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_the_stream_of_requests_is_reproducible() -> None:
    first, second = (islice(requests(7, "sql"), 100) for _ in range(2))
    assert list(first) == list(second)
