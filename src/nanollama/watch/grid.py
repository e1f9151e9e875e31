"""A grid that is followed: what its runs are at, what has failed, and how long the rest will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nanollama.errors import UserError
from nanollama.launcher.local.run import inspect_all
from nanollama.launcher.plan import Plan
from nanollama.launcher.screen import grid_time_left, summarise
from nanollama.launcher.states import KINDS, State
from nanollama.measures import is_number
from nanollama.watch.run import WatchedRun

N_LISTED = 10
"""Runs of a kind; the table of runs has them all."""
N_LAST_LINES = 12
"""Of what a failed run printed."""


class WatchedGrid:
    """A grid, of which the config says what its runs are.

    Args:
        plan: of its config.
        runs: those followed, in the order of the plan.
    """

    def __init__(self, plan: Plan, runs: Sequence[WatchedRun]) -> None:
        self.plan = plan
        self.runs = runs

    def look(self) -> None:
        """Read the states of all runs."""
        states = inspect_all(self.plan)
        for run in self.runs:
            assert run.planned is not None
            run.state = states[run.planned.name]

    def summary(self) -> dict[str, Any]:
        """How many are in which state, the queue, the failures with their last lines, and the time left."""
        states = {run.name: run.state for run in self.runs}
        counts = Counter(state.kind for state in states.values())
        return {
            "name": self.plan.name,
            "folder": str(self.plan.folder),
            "said": summarise(states),
            "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
            "left": self._time_left(states),
            "failed": [self._listed(run, N_LAST_LINES) for run in self._of("failed", "stale")[:N_LISTED]],
            "running": [self._listed(run, 1) for run in self._of("running")[:N_LISTED]],
            "waiting": [self._listed(run, 0) for run in self._of("queued", "waiting", "stopped")[:N_LISTED]],
        }

    def _of(self, *kinds: str) -> list[WatchedRun]:
        return [run for run in self.runs if run.state.kind in kinds]

    def _listed(self, run: WatchedRun, n_lines: int) -> dict[str, Any]:
        lines: list[str] = []
        if n_lines:
            try:
                lines = run.log_lines(n_lines)
            except (UserError, OSError) as error:
                lines = [str(error)]
        return {"number": run.number, "name": run.name, "reason": run.state.reason, "lines": lines}

    def _time_left(self, states: Mapping[str, State]) -> str:
        """For what is not finished, as many at a time as there are now."""
        ended = [state.result.get("seconds") for state in states.values() if state.kind == "finished"]
        n_running = len(self._of("running"))
        n_left = n_running + len(self._of("queued", "waiting"))
        seconds = [value for value in ended if is_number(value)]
        return grid_time_left(seconds, n_left, n_running) if n_running else ""
