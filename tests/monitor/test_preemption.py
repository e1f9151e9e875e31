"""Requests to stop: signals, Ctrl-C, the clock."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from nanollama.launcher.local import drive
from nanollama.monitor import preemption as module
from nanollama.monitor.preemption import Preemption


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP]
)
def test_a_signal_is_a_reason_to_stop(number: signal.Signals) -> None:
    before = signal.signal(
        number, mine := lambda number, frame: None
    )  # the tests themselves may be under nohup
    try:
        with Preemption() as preemption:
            assert preemption.reason is None
            os.kill(os.getpid(), number)
            assert preemption.reason == f"received {number.name}"
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("listens", [Preemption, lambda: drive._signals(lambda: None)])
def test_under_nohup_a_terminal_may_close(listens: Callable[[], AbstractContextManager[object]]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listens():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_first_signal_is_the_reason() -> None:
    with Preemption() as preemption:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.reason == "received SIGUSR1"


def test_a_second_ctrl_c_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Preemption() as preemption:
        os.kill(os.getpid(), signal.SIGINT)
        now = 10.9
        os.kill(os.getpid(), signal.SIGINT)  # the echo of the first
        assert preemption.reason == "received SIGINT"
        now = 11.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Preemption(max_minutes=0.5) as preemption:
        now = 39.9
        assert preemption.reason is None
        now = 40.0
        assert preemption.reason == "max_minutes is over"


def test_outside_of_the_main_thread_the_clock_alone_counts() -> None:
    reasons: list[str | None] = []

    def work() -> None:
        with Preemption(max_minutes=1e-9) as preemption:
            reasons.append(preemption.reason)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reasons == ["max_minutes is over"]
