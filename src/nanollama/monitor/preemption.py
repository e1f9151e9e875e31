"""Being asked to stop: by a scheduler's signal, by Ctrl-C, by the clock."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
ECHO_SECONDS = 1.0  # one Ctrl-C can arrive twice: from the terminal and from the parent process


def heard(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those to listen to: not SIGHUP where it is ignored, as under ``nohup``, to outlive a terminal."""
    return [one for one in signals if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


class Preemption:
    """Turns requests to stop into a question the loop asks after each step; use as a context manager.

    A second Ctrl-C, a second or more after the first, raises `KeyboardInterrupt` at once. Signals are only
    heard in the main thread of a process; elsewhere the clock alone counts.

    Args:
        max_minutes: ask to stop after so long in this process; ``None`` sets no limit.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signal: signal.Signals | None = None
        self._interrupted = float("inf")
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():
            for number in heard(SIGNALS):
                self._previous[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @property
    def reason(self) -> str | None:
        """Why to stop, ``None`` to go on."""
        if self._signal is not None:
            return f"received {self._signal.name}"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "max_minutes is over"
        return None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT:
            if now - self._interrupted >= ECHO_SECONDS:
                raise KeyboardInterrupt
            self._interrupted = min(self._interrupted, now)
        self._signal = self._signal or signal.Signals(number)
