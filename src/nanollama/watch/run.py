"""A run that is followed: its rows, its config, and what its folder says of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanollama.config import Config
from nanollama.errors import UserError
from nanollama.launcher.attempts import LAUNCH, OUTPUT, read_launch, tail
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.screen import time_left
from nanollama.launcher.states import State, inspect
from nanollama.measures import headline_names, show_measure
from nanollama.monitor.files import own_file, read_json
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import CONFIG, DIALOGS, EVALS, LOCK, METRICS, RESULT, is_held
from nanollama.monitor.successor import LOG, SAMPLES
from nanollama.report.aggregate import flatten
from nanollama.report.grouping import show_value
from nanollama.report.runs import parse_config, read_samples
from nanollama.watch.columns import STEP, Columns

N_LOG_LINES = 40
N_SHOWN = 200
"""Sample dialogs, or evaluations with samples."""
N_STEPS_KEY = "training.n_steps"


@dataclass
class WatchedRun:
    """One run; what is read of it is kept until it is read anew.

    Args:
        number: what requests call it; folders have no name there.
        name: unique among those followed.
        folder: of the run, which may not be there yet.
        root: the folder that was named; nothing outside of it is read, wherever links lead.
        planned: what the grid says of it; None for a run alone.
        seed_key: the key that seeds of its grid are values of.
    """

    number: int
    name: str
    folder: Path
    root: Path
    planned: GridRun | None = None
    seed_key: str | None = None
    state: State = field(default_factory=lambda: State("waiting", {}))
    config: Mapping[str, Any] = field(default_factory=dict)
    """By dotted key; empty until it is read."""

    def __post_init__(self) -> None:
        self.metrics, self.evals = Columns(self.folder / METRICS), Columns(self.folder / EVALS)
        self.n_configs = 0
        """How often its config has been read."""
        self._config_time, self._config_problem = 0, ""
        self._inside = os.path.realpath(self.root)
        self._problems: dict[str, str] = {}
        if self.planned is not None:
            arm = {ARM: self.planned.values[ARM]} if ARM in self.planned.values else {}
            self.config, self.n_configs = {**arm, **flatten(self.planned.config.model_dump(mode="json"))}, 1

    @property
    def problem(self) -> str:
        """What of it cannot be read, and why; nothing where all can."""
        return " ".join(self._problems.values())

    def file(self, name: str) -> Path:
        """A file of its folder, which may be missing.

        Raises:
            UserError: a link leads out of the folder that was named, or it is no plain file.
        """
        return own_file(self.folder, name, self._inside)

    def sample(self) -> None:
        """Take some rows from all over its files, to show something at once."""
        for columns in (self.metrics, self.evals):
            with self._noting(columns.path.name):
                self.file(columns.path.name)
                columns.sample()

    def read(self) -> bool:
        """Take what is new; has anything changed that curves are made of?"""
        changed = False
        for columns in (self.metrics, self.evals):
            with self._noting(columns.path.name):
                self.file(columns.path.name)
                changed = columns.read() or changed
                columns.check_names()
        if self.planned is None:
            with self._noting(CONFIG):
                changed = self._read_config(self.file(CONFIG)) or changed
        return changed

    def _read_config(self, path: Path) -> bool:
        written = path.stat().st_mtime_ns if path.exists() else 0
        if written != self._config_time:
            text = path.read_text(encoding="utf-8", errors="replace")
            self._config_time, self._config_problem = written, ""
            try:
                self.config = flatten(parse_config(path, text))
                self.n_configs += 1
                return True
            except UserError as error:  # which may have taken seconds to find
                self._config_problem = str(error)
        if self._config_problem:
            raise UserError(self._config_problem)
        return False

    def look(self) -> None:
        """Read what its folder says of a run alone; of one of a grid, the grid knows."""
        if self.planned is None:
            with self._noting(RESULT):
                self.state = look_at(self.folder, self._inside)

    def summary(self) -> dict[str, Any]:
        """What the table of runs says of it."""
        measures = {name: show_measure(self.evals.last, name) for name in headline_names(self.evals.names)}
        steps = self.metrics.last.get(STEP), self.state.result.get(STEP)  # it may have stopped between rows
        step = max((step for step in steps if isinstance(step, int | float)), default=None)
        n_steps = self.config.get(N_STEPS_KEY)
        is_at_work = self.state.kind == "running"
        return {
            "number": self.number,
            "name": self.name,
            "state": self.state.kind,
            "reason": self.problem or self.state.reason,
            "step": step,
            "n_steps": n_steps if isinstance(n_steps, int) else None,
            "left": time_left(self.metrics.last, n_steps) if is_at_work and isinstance(n_steps, int) else "",
            "measures": {"loss": show_measure(self.metrics.last, "loss"), **measures},
        }

    def details(self) -> dict[str, Any]:
        """What is shown of it alone: the last lines of its log, its config, sample dialogs."""
        found: dict[str, Any] = {"log": [], "dialogs": [], "samples": []}
        with self._noting(LOG):
            found["log"] = self.log_lines(N_LOG_LINES)
        with self._noting(DIALOGS):
            found["dialogs"] = [
                {
                    "title": dialog.title,
                    "expected": dialog.expected,
                    "is_right": dialog.is_right,
                    "messages": [list(message) for message in dialog.messages],
                }
                for dialog in read_samples(self.file(DIALOGS))[:N_SHOWN]
            ]
        with self._noting(SAMPLES):
            found["samples"] = RowFile(self.file(SAMPLES)).read()[-N_SHOWN:]
        return {
            **found,
            **self.summary(),
            "config": {key: show_value(self.config[key]) for key in self.config},
        }

    def log_lines(self, n_most: int) -> list[str]:
        """The last lines that its processes printed, or that its log has."""
        for name in (OUTPUT, LOG):
            if lines := [line for line in tail(self.file(name)) if line.strip()]:
                return lines[-n_most:]
        return []

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """Note why its file of this name cannot be read: a damaged run does not hide the others."""
        try:
            yield
        except UserError as error:
            self._problems[name] = str(error)
        except OSError as error:
            self._problems[name] = f"{self.folder / name} cannot be read: {error.strerror or error}."
        else:
            self._problems.pop(name, None)


def look_at(folder: Path, root: str | None = None) -> State:
    """The state of a run that no grid knows; one that nobody is at work on and has no result is stopped.

    Args:
        folder: of the run.
        root: where links may lead to, see `own_file`.

    Raises:
        UserError: a file of it is none of its own.
    """
    for name in (RESULT, LAUNCH, LOCK):
        own_file(folder, name, root)
    result = read_json(folder / RESULT)
    status = result.get("status")
    if status == "diverged":
        return State("failed", result, "a loss was not finite")
    if status == "finished" or read_launch(folder) is not None:
        return inspect(GridRun(folder.name, folder, _Alone(), {}))
    return State("running" if is_held(folder) else "stopped", result)


class _Alone(Config):
    """What `inspect` is told of the config of a run alone: that it is one of training."""

    training: None = None
