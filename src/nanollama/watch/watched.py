"""All that is followed: which runs there are, what is new of them, and what requests are answered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any

from nanollama.errors import UserError
from nanollama.launcher.attempts import LAUNCH_CONFIG
from nanollama.launcher.plan import Plan
from nanollama.measures import headline_names
from nanollama.monitor import checkpoint
from nanollama.monitor.successor import CONFIG, EVALUATIONS
from nanollama.report.aggregate import NAMING, SEEDS
from nanollama.report.grouping import group_runs, show_value
from nanollama.report.style import COLOURS
from nanollama.studies import STUDY_KEY
from nanollama.watch.grid import WatchedGrid
from nanollama.watch.run import WatchedRun
from nanollama.watch.series import RUN, SETTING, View, series

SECONDS_BETWEEN_READS, SECONDS_TO_LET_IN = 0.3, 0.002
SECONDS_BETWEEN_LOOKS, SHARE_OF_LOOKS = 2.0, 0.1
"""At folders and states: no sooner, and no more than that share of the time, on slow disks too."""
MAX_DEPTH = 32
"""Of folders of runs below one that is named: deeper than anybody lays them, and an end to hostile ones."""
MAX_RUNS = 2_000
N_TOLD_APART = 12
"""Lines that can be told apart; more are shown as means of settings, unless something else is asked for."""
N_MEASURES = 3
"""Of evaluations, shown at first."""
NOT_RUNS = {checkpoint.FOLDER, EVALUATIONS, "track", "figures", "submissions"}


class Watched:
    """Runs and grids that are followed. One request at a time is answered from what was read.

    Args:
        folders: of runs, or that hold runs at any depth up to `MAX_DEPTH`.
        plans: of grids.
    """

    def __init__(self, folders: Sequence[Path], plans: Sequence[Plan] = ()) -> None:
        self.runs: list[WatchedRun] = []
        self._known: set[Path] = set()
        self._left_out: set[Path] = set()
        """Folders of runs that came when there were `MAX_RUNS` already."""
        self._roots = [folder.resolve() for folder in folders]
        self._lock = Lock()
        self.is_shown = Event()
        """Set once curves have been drawn: what is left to read may then take the processor."""
        self._is_begun = False
        self._read_at = self._look_at = 0.0
        self._keys: tuple[tuple[int, int], dict[str, list[str]]] = ((0, 0), {})
        self.n_changes = 0
        """Of rows; curves are what they were while it stays the same."""
        self.n_read = 0
        """Runs of which all rows have been read; of the others there is a sample."""
        self.grids = [self._add_grid(plan) for plan in plans]
        self._look()
        if not 0 < len(self.runs) + len(self._left_out) <= MAX_RUNS:
            there = "no run is there" if not self.runs else f"more than {MAX_RUNS:,} runs are there"
            named = ", ".join(str(path) for path in (*folders, *(plan.folder for plan in plans)))
            raise UserError(
                f"{named}: {there}; name folders of runs, folders that hold some, or configs of grids."
            )
        for run in self.runs:
            run.sample()

    def read_all(self) -> None:
        """Read everything once, a run at a time, while requests are answered in between."""
        while self.n_read < len(self.runs):
            with self._lock:
                self._read_next()
            time.sleep(SECONDS_TO_LET_IN)
        self._is_begun = True

    def refresh(self) -> None:
        """Take what is new, unless that was done just now; of runs that are not read yet, some."""
        with self._lock:
            now = time.monotonic()
            if now >= self._look_at:
                self._look()
                ended = time.monotonic()
                self._look_at = ended + max(SECONDS_BETWEEN_LOOKS, (ended - now) / SHARE_OF_LOOKS)
            if now >= self._read_at:
                self.n_changes += sum([run.read() for run in self.runs[: self.n_read]])
                self._read_at = time.monotonic() + SECONDS_BETWEEN_READS
            while self._is_begun and self.n_read < len(self.runs) and time.monotonic() < self._read_at:
                self._read_next()

    def state(self) -> dict[str, Any]:
        """What the page shows beside the curves."""
        with self._lock:
            measures = self._measures()
            keys = self._varied()
            summaries = [run.summary() for run in self.runs]
            for summary, run in zip(summaries, self.runs, strict=True):
                summary["values"] = [keys[key][run.number] for key in keys]
            return {
                "n_read": self.n_read,
                "n_left_out": len(self._left_out),
                "grids": [grid.summary() for grid in self.grids],
                "runs": summaries,
                "keys": list(keys),
                "measures": measures,
                "shown": self._shown(measures),
                "group": SETTING if self._are_many(keys) else RUN,
                "colours": list(COLOURS),
            }

    def curves(self, view: View) -> list[dict[str, Any]]:
        """The lines of a chart."""
        with self._lock:
            found = series(self.runs, view)
        self.is_shown.set()
        return found

    def details(self, number: int) -> dict[str, Any] | None:
        """What is shown of one run alone; None where there is none of this number."""
        with self._lock:
            return self.runs[number].details() if 0 <= number < len(self.runs) else None

    def _read_next(self) -> None:
        if self.n_read < len(self.runs):
            self.runs[self.n_read].read()
            self.n_read += 1
            self.n_changes += 1

    def _add_grid(self, plan: Plan) -> WatchedGrid:
        root = plan.folder.resolve()
        runs = []
        for run in plan.runs:
            runs.append(WatchedRun(len(self.runs), run.name, run.folder, root, run, plan.seed_key))
            self.runs.append(runs[-1])
            self._known.add(run.folder.resolve())
        return WatchedGrid(plan, runs)

    def _look(self) -> None:
        """Find runs that are new, and what all are at."""
        for root in self._roots:
            for folder in run_folders(root):
                if folder in self._known:
                    continue
                if len(self.runs) >= MAX_RUNS:
                    self._left_out.add(folder)
                else:
                    self._known.add(folder)
                    self.runs.append(WatchedRun(len(self.runs), self._name(root, folder), folder, root))
        for grid in self.grids:
            grid.look()
        for run in self.runs:
            run.look()

    def _name(self, root: Path, folder: Path) -> str:
        """As it lies below the folder that was named; longer where another run is called so."""
        taken = {run.name for run in self.runs}
        names = (str(folder.relative_to(root)) if folder != root else folder.name, str(folder))
        return next((name for name in names if name not in taken), names[-1])

    def _measures(self) -> list[str]:
        """Names of all numbers that rows have, those of training first."""
        kinds: tuple[Callable[[WatchedRun], list[str]], ...] = (
            lambda run: run.metrics.names,
            lambda run: run.evals.names,
        )
        return list(dict.fromkeys(name for kind in kinds for run in self.runs for name in kind(run)))

    def _are_many(self, keys: Collection[str]) -> bool:
        """Are runs too many to be told apart, and is it known of all what settings they are of?"""
        is_known = all(run.config for run in self.runs)
        return len(self.runs) > N_TOLD_APART and is_known and any(key in keys for key in SEEDS)

    def _shown(self, measures: Sequence[str]) -> list[str]:
        """Those that are drawn at first: the loss, and what evaluations are compared by."""
        evaluated = list(dict.fromkeys(name for run in self.runs for name in run.evals.names))
        return [name for name in ("loss", *headline_names(evaluated)[:N_MEASURES]) if name in measures]

    def _varied(self) -> dict[str, list[str]]:
        """What differs between the configs: for each key, how each run has it, by number; seeds last.

        A study has keys of its own: beside another, these do not differ for being there.
        """
        read = len(self.runs), sum(run.n_configs for run in self.runs)
        if read != self._keys[0]:
            known = [run for run in self.runs if run.config]
            values = [{key: run.config[key] for key in run.config if key not in NAMING} for run in known]
            found: dict[str, list[str]] = {}
            for setting in group_runs(known, values, ()):
                for key, value in setting.values.items():
                    for run in setting.runs:
                        found.setdefault(key, [""] * len(self.runs))[run.number] = show_value(value)
            if STUDY_KEY in found:
                found = {key: has for key, has in found.items() if len(set(has) - {""}) > 1}
            self._keys = read, {key: found[key] for key in sorted(found, key=lambda key: key in SEEDS)}
        return self._keys[1]


def run_folders(root: Path) -> Iterator[Path]:
    """Folders of runs at or below a folder, by name, down to `MAX_DEPTH`; links are not followed."""
    if is_run(root):
        yield root
        return
    for path, names, _ in os.walk(root):
        folder = Path(path)
        depth = len(folder.relative_to(root).parts)
        if folder != root and is_run(folder):
            names.clear()
            yield folder
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in NOT_RUNS)
        if depth >= MAX_DEPTH:
            names.clear()


def is_run(folder: Path) -> bool:
    """Does a folder hold the config of a run, perhaps of one yet to begin? Never one closed to us."""
    return any(os.path.isfile(folder / name) for name in (CONFIG, LAUNCH_CONFIG))
