"""What a run says is on the terminal and in its file, line for line."""

from __future__ import annotations

import io
import logging
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from nanollama.monitor import log as log_module
from nanollama.monitor.log import RunLog


def make(path: Path | None, terminal: bool = False) -> tuple[RunLog, io.StringIO]:
    stream = io.StringIO()
    return RunLog(path, Console(file=stream, force_terminal=terminal, soft_wrap=True, width=40)), stream


def test_file_and_terminal_show_the_same(tmp_path: Path) -> None:
    log, stream = make(tmp_path / "log.txt")
    with log.listen():
        log.say("step 1/10  loss 5.5  [not markup]")
        logging.getLogger("nanollama.monitor.checkpoint").warning("Skipped %s", "x" * 200)
        logging.getLogger("nanollama").info("Going on.")
        logging.getLogger("nanollama").debug("unheard")
        logging.getLogger("elsewhere").warning("unheard")
    expected = f"step 1/10  loss 5.5  [not markup]\nWarning: Skipped {'x' * 200}\nGoing on.\n"
    assert stream.getvalue() == expected
    assert (tmp_path / "log.txt").read_text() == expected


def test_no_line_steers_the_terminal(tmp_path: Path) -> None:
    log, terminal = make(tmp_path / "log.txt")
    with log.listen():
        logging.getLogger("nanollama").warning("It is \x1b]0;owned\x07.")
    assert terminal.getvalue() == "Warning: It is \ufffd]0;owned\ufffd.\n"


def test_a_log_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for line in ("one", "two"):
        make(tmp_path / "log.txt")[0].say(line)
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


def test_listening_ends(tmp_path: Path) -> None:
    log, stream = make(tmp_path / "log.txt")
    library = logging.getLogger("nanollama")
    before = (library.level, list(library.handlers))
    with log.listen():
        pass
    assert (library.level, library.handlers) == before
    library.error("unheard")
    assert stream.getvalue() == ""


def test_lines_that_would_flood_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(log_module.time, "monotonic", lambda: now)
    log, stream = make(tmp_path / "log.txt")
    for second in (100.0, 101.0, 104.9, 105.0, 106.0):
        now = second
        log.say_sometimes(f"at {second}")
    log.say_sometimes("the last", always=True)
    assert stream.getvalue().splitlines() == ["at 100.0", "at 105.0", "the last"]


def test_other_processes_are_silent() -> None:
    log, stream = make(None, terminal=True)
    with log.listen(), log.progress(3) as bar:
        log.say("nothing")
        bar.update(1)
        logging.getLogger("nanollama").warning("nothing")
    assert stream.getvalue() == ""


def test_the_bar_is_for_terminals_only(tmp_path: Path) -> None:
    for terminal in (False, True):
        log, stream = make(tmp_path / "log.txt", terminal)
        with log.progress(30) as bar:
            bar.update(7)
        assert ("/30" in stream.getvalue()) == terminal
    assert not (tmp_path / "log.txt").exists()


@pytest.mark.parametrize("open_ends", [os.pipe, pty.openpty])
def test_a_run_outlives_the_reader_of_its_terminal(
    open_ends: Callable[[], tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = open_ends()
    with open(writer, "wb", buffering=0) as raw:  # unbuffered: nothing is left to write when it is closed
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, write_through=True))
        log = RunLog(tmp_path / "log.txt")
        assert log.console.is_terminal == (open_ends is pty.openpty)
        os.close(reader)
        with log.listen(), log.progress(3) as bar:
            log.say("one")
            bar.update(1)
            log.say("two")
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"
