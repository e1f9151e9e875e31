"""What a run says: lines in log.txt, the same lines on the terminal, and a progress bar where there is one.

Anything in the library speaks through `logging`; while a run is open its lines arrive here.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nanollama.errors import Preempted, UserError
from nanollama.wording import printable

LIBRARY = "nanollama"
SECONDS_BETWEEN_LINES = 5.0


class RunLog:
    """The voice of one run.

    Args:
        path: of the log file, appended to; ``None`` for a process that stays silent.
        console: the terminal; standard error by default.
    """

    def __init__(self, path: Path | None, console: Console | None = None) -> None:
        self.path = path
        self.console = console or Console(file=cast(TextIO, _Lasting(sys.stderr)), soft_wrap=True)
        self._last_line = float("-inf")

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Pass on what the library logs, and write down what ends the run, as the terminal will show it."""
        library = logging.getLogger(LIBRARY)
        handler, level = _Handler(self), library.level
        library.addHandler(handler)
        library.setLevel(logging.INFO)
        try:
            yield
        except (UserError, Preempted) as message:
            self._to_file(str(message))
            raise
        except BaseException:
            self._to_file(traceback.format_exc().rstrip())
            raise
        finally:
            library.removeHandler(handler)
            library.setLevel(level)

    def say(self, line: str) -> None:
        """Show one line."""
        if self.path is not None:
            self._to_file(line)
            self.console.print(printable(line), markup=False, highlight=False)

    def say_sometimes(self, line: str, always: bool = False) -> None:
        """Show one line unless the last such line is only seconds old."""
        if always or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.say(line)

    @contextmanager
    def progress(self, n_steps: int) -> Iterator[ProgressBar]:
        """A bar below the lines on a terminal, nothing elsewhere."""
        if self.path is None or not self.console.is_terminal:
            yield ProgressBar(None, n_steps)
            return
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield ProgressBar(progress, n_steps)

    def _to_file(self, text: str) -> None:
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text + "\n")


class ProgressBar:
    """Steps done and a word about them; without a terminal it does nothing."""

    def __init__(self, progress: Progress | None, n_steps: int) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("", total=n_steps)

    def update(self, step: int, text: str = "") -> None:
        """Show that so many steps are done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step, description=text)


class _Lasting:
    """A stream that may lose its reader (a closed terminal, `| tee` after Ctrl-C): a run outlives it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class _Handler(logging.Handler):
    def __init__(self, log: RunLog) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.capitalize()}: " if record.levelno >= logging.WARNING else ""
        self._log.say(prefix + record.getMessage())
