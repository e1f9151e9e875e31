"""What is shown of a grid: a live table while it runs, and tables of its state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nanollama.errors import EXIT_OK, EXIT_PREEMPTED, UserError
from nanollama.launcher.attempts import Launch
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.states import KINDS, REMEDY, State
from nanollama.measures import is_number
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import METRICS
from nanollama.wording import count

N_FAILED_SHOWN = 10
SECONDS_BETWEEN_FRAMES = 0.5


class Screen:
    """Shows a pool at work: on a terminal one live table, elsewhere a line for each run that ends.

    Args:
        n_runs: of the grid.
        n_finished: of them, before the pool starts.
        n_jobs: runs at a time.
        console: standard error by default.
    """

    def __init__(self, n_runs: int, n_finished: int, n_jobs: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._n_runs = n_runs
        self._n_jobs = n_jobs
        self._n_finished = n_finished
        self._failed: list[tuple[str, str]] = []
        self._began: dict[str, float] = {}
        self._seconds: list[float] = []
        self._live: Live | None = None
        self._last_frame = 0.0

    @contextmanager
    def open(self) -> Iterator[Screen]:
        """Show the table until the end."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield self
        self._live = None

    def began(self, run: GridRun) -> None:
        """A run was started."""
        self._began[run.name] = time.monotonic()

    def ended(self, run: GridRun, launch: Launch) -> None:
        """The process of a run ended: a line says so."""
        seconds = time.monotonic() - self._began.pop(run.name)
        if launch.exit_code == EXIT_OK:
            self._n_finished += 1
            self._seconds.append(seconds)
            word = "finished"
        elif launch.exit_code == EXIT_PREEMPTED:
            word = "stopped"
        else:
            self._failed.append((run.name, launch.reason))
            word = f"failed: {launch.reason}"
        self._say(f"{run.name}  {word}  ({seconds:.1f} s)")

    def left_out(self, run: GridRun, reason: str) -> None:
        """A run cannot be started any more: a line says so."""
        self._failed.append((run.name, reason))
        self._say(f"{run.name}  failed: {reason}")

    def look(self, running: Sequence[GridRun], n_waiting: int) -> None:
        """Draw the table anew."""
        now = time.monotonic()
        if self._live is not None and now - self._last_frame >= SECONDS_BETWEEN_FRAMES:
            self._last_frame = now
            self._live.update(self._draw(running, n_waiting), refresh=True)

    def _say(self, what: str) -> None:
        n_ended = self._n_finished + len(self._failed)
        self._console.print(f"{n_ended}/{self._n_runs}  {what}", markup=False, highlight=False)

    def _draw(self, running: Sequence[GridRun], n_waiting: int) -> RenderableType:
        table = Table("running", "step", "loss", "left", box=None, pad_edge=False)
        for run in running:
            row, n_steps = _last_row(run), None if run.training is None else run.training.n_steps
            step = row.get("step")
            table.add_row(
                Text(run.name),
                f"{step or 0}/{n_steps}" if n_steps else "",
                f"{row['loss']:.4f}" if row.get("loss") is not None else "",
                time_left(row, n_steps),
            )
        counts = f"{self._n_finished} done, {len(running)} running, {len(self._failed)} failed, "
        head = f"{counts}{n_waiting} waiting{self._grid_left(n_waiting + len(running))}"
        shown = self._failed[-N_FAILED_SHOWN:]
        return Group(Text(head), table, *(Text(f"failed  {name}: {why}", "red") for name, why in shown))

    def _grid_left(self, n_left: int) -> str:
        """How long the runs that are left will take, from the mean of those that have finished."""
        left = grid_time_left(self._seconds, n_left, self._n_jobs)
        return left and f"; about {left} left"


def _last_row(run: GridRun) -> Mapping[str, Any]:
    """What it wrote last about its training; nothing where that is damaged, which ends no grid."""
    try:
        return RowFile(run.folder / METRICS).last()
    except UserError:
        return {}


def grid_time_left(seconds: Sequence[float], n_left: int, n_jobs: int) -> str:
    """How long so many runs take, so many at a time, if each takes the mean of those that have ended."""
    return _duration(sum(seconds) / len(seconds) * n_left / n_jobs) if seconds and n_left else ""


def summarise(states: Mapping[str, State]) -> str:
    """How many runs are in which state, in one line."""
    counts = Counter(state.kind for state in states.values())
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS if counts[kind]) + f", of {len(states):,}"


def state_lines(states: Mapping[str, State], most: int) -> Iterator[str]:
    """One line for every run that is not finished, failures with their reason; at most so many of a kind.

    Where one is stale, a line more says what to do.
    """
    counts: Counter[str] = Counter()
    for name, state in states.items():
        counts[state.kind] += 1
        if state.kind != "finished" and counts[state.kind] <= most:
            yield f"{state.kind:8}  {name}{f': {state.reason}' if state.reason else ''}"
    for kind in KINDS:
        if kind != "finished" and counts[kind] > most:
            yield f"{kind:8}  ... and {count(counts[kind] - most, 'run')} more"
    if counts["stale"]:
        yield f"What is stale is not judged: {REMEDY}."


def time_left(row: Mapping[str, object], n_steps: int | None) -> str:
    """How long a run takes to its last step at its pace up to its last row; nothing where unknown."""
    step, seconds = row.get("step"), row.get("elapsed_seconds")
    if not (is_number(step) and is_number(seconds) and step > 0 and n_steps):
        return ""
    return _duration(seconds / step * (n_steps - step))


def _duration(seconds: float) -> str:
    """In hours, minutes and seconds; nothing where it is longer than can be said."""
    try:
        return str(timedelta(seconds=round(seconds)))
    except OverflowError:
        return ""
