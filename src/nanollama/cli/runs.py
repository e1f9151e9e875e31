"""``nanollama runs``: runs as a list, their differences, and what their checkpoints are worth."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from nanollama.config import RUNS
from nanollama.errors import EXIT_FAILED, EXIT_OK, UserError
from nanollama.launcher.states import State
from nanollama.measures import ABSENT, headline_names, is_number, show_measure, show_number
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import Checkpointer, DamagedCheckpoint
from nanollama.monitor.files import own_file, read_text
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import CONFIG, EVALS, METRICS
from nanollama.report.aggregate import NAMING, flatten
from nanollama.report.grouping import group_runs, show_value
from nanollama.report.runs import parse_config
from nanollama.report.tables import Table
from nanollama.studies import STUDY_KEY
from nanollama.watch.run import look_at
from nanollama.watch.watched import run_folders
from nanollama.wording import count, printable, shorten, show, suggest_folder

CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|!=|=|<|>)\s*(\S.*?)\s*")
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
MAX_CELL, WIDE = 60, 10_000


@dataclass(frozen=True)
class RunEntry:
    """A run of the list; what is asked of it is read when it is asked for.

    Args:
        name: its path, as short as it can be.
        folder: where it is.
        problems: why files of it could not be read, once that was tried; they count as missing.
    """

    name: str
    folder: Path
    problems: list[str] = field(default_factory=list, compare=False)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """By dotted key."""
        path = self.folder / CONFIG
        with self._noting():
            text = read_text(own_file(self.folder, CONFIG))
            return {} if text is None else flatten(parse_config(path, text))
        return {}

    @cached_property
    def measures(self) -> Mapping[str, float]:
        """The numbers of its last rows; those of training by the names that evaluations do not have."""
        rows = {**self._training, **self._evaluation}
        logged, saved = self._training.get("step"), self.state.result.get("step")
        rows["step"] = max((step for step in (logged, saved) if is_number(step)), default=None)
        return {name: value for name, value in rows.items() if is_number(value)}

    @cached_property
    def headlines(self) -> list[str]:
        """What evaluations are compared by."""
        row = self._evaluation
        return headline_names([name for name in row if name != "step" and is_number(row[name])])

    @cached_property
    def _training(self) -> Mapping[str, Any]:
        with self._noting():
            return RowFile(own_file(self.folder, METRICS)).last()
        return {}

    @cached_property
    def _evaluation(self) -> Mapping[str, Any]:
        with self._noting():
            return RowFile(own_file(self.folder, EVALS)).last()
        return {}

    @cached_property
    def state(self) -> State:
        """What it is at."""
        with self._noting():
            return look_at(self.folder)
        return State("stopped", {}, "its files cannot be read")

    @cached_property
    def n_bytes(self) -> int:
        """On disk, all that is in its folder; what a run at work removes meanwhile is left out."""
        n_bytes = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):
                    n_bytes += os.stat(os.path.join(folder, name)).st_size
        return n_bytes

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note why a file cannot be read: a damaged run does not hide the others."""
        try:
            yield
        except UserError as error:
            self.problems.append(str(error))

    def value(self, name: str) -> Any:
        """What a condition calls by a name: state, MB, a measure, or a key of the config or its ending."""
        known: dict[str, Any] = {"state": self.state.kind, "MB": self.n_bytes / 1e6, "name": self.name}
        if name in known:
            return known[name]
        if name in self.measures:
            return self.measures[name]
        keys = self.keys(name)
        return self.config[keys[0]] if keys else None

    def keys(self, name: str) -> list[str]:
        """Keys of its config that a name may mean: the one called so, or those that end in it."""
        return [name] if name in self.config else [key for key in self.config if key.endswith(f".{name}")]


def list_runs(folders: Sequence[Path], conditions: Sequence[str], sort: str | None) -> int:
    """Print a table of the runs below some folders.

    Args:
        folders: `RUNS` where there are none.
        conditions: such as ``model.d_model=64`` or ``accuracy>0.9``; all have to hold.
        sort: a name as in conditions, of what runs are ordered by; what has none comes last.

    Raises:
        UserError: no such folder, a condition that cannot be read, or about nothing, or about several keys.
    """
    every = find_runs(folders)
    runs = [run for run in every if all(_holds(run, condition, every) for condition in conditions)]
    if sort is not None:
        _check_known(sort, every)
        runs.sort(key=lambda run: _order(run.value(sort)))
    _print(runs_table(runs))
    print(f"{count(len(runs), 'run')} of {len(every):,}, {megabytes(sum(run.n_bytes for run in runs))} MB")
    _tell_problems(every)
    if len(studies := {str(run.config.get(STUDY_KEY)) for run in runs}) > 1:
        print(f"--where {STUDY_KEY}={min(studies)} shows what differs within a study, and its measures.")
    return EXIT_OK


def compare_runs(folders: Sequence[Path]) -> int:
    """Print what differs between the configs of runs, and what they measured."""
    runs = find_runs(folders)
    if len(runs) < 2:
        raise UserError("Only one run to compare: name two or more, or a folder that holds them.")
    varied = _varied(runs)
    names = list(dict.fromkeys(name for run in runs for name in ("loss", *run.headlines)))
    rows = [(key, *(_cell(run.config.get(key, ABSENT)) for run in runs)) for key in varied]
    rows += [(name, *(show_measure(run.measures, name) for run in runs)) for name in names]
    table = Table("What differs, and what was measured last.", ("", *(run.name for run in runs)), tuple(rows))
    _print(table)
    _tell_problems(runs)
    return EXIT_OK


def verify_runs(folders: Sequence[Path]) -> int:
    """Compare the files of all checkpoints with the hashes of their manifests; 1 when one is damaged."""
    n_whole, damaged = 0, []
    for run in find_runs(folders):
        checkpoints = Checkpointer(run.folder / checkpoint.FOLDER)
        for step in checkpoints.steps():
            try:
                checkpoints.verify(checkpoints.path(step))
                n_whole += 1
            except (DamagedCheckpoint, OSError) as error:
                damaged.append(printable(f"damaged  {checkpoints.path(step)}: {error}"))
    for line in damaged:
        print(line)
    print(f"{count(n_whole, 'checkpoint')} as they were written, {len(damaged)} damaged")
    return EXIT_FAILED if damaged else EXIT_OK


def find_runs(folders: Sequence[Path]) -> list[RunEntry]:
    """The runs at or below folders, `RUNS` where none is named.

    Raises:
        UserError: a folder is not there, or there is no run.
    """
    found: dict[Path, str] = {}
    for folder in folders or [RUNS]:
        if not folder.is_dir():
            hint = suggest_folder(folder) or "; expected that of a run, or one that holds runs."
            raise UserError(f"{folder}: no such folder{hint}")
        for run in run_folders(folder):
            found.setdefault(run.resolve(), str(run))
    if not found:
        raise UserError(
            f"{', '.join(map(str, folders or [RUNS]))}: no runs; `nanollama train CONFIG` makes one."
        )
    return [RunEntry(printable(name), folder) for folder, name in found.items()]


def runs_table(runs: Sequence[RunEntry]) -> Table:
    """A row a run: what it is at, its size, its last measures, and what differs.

    Of runs of several studies, that is which: almost every key and every measure would differ.
    """
    is_mixed = len({run.config.get(STUDY_KEY) for run in runs}) > 1
    names = [] if is_mixed else list(dict.fromkeys(name for run in runs for name in run.headlines))
    varied = [STUDY_KEY] if is_mixed else _varied(runs)
    rows = [
        (
            run.name,
            run.state.kind,
            show_number(run.measures.get("step")),
            megabytes(run.n_bytes),
            show_measure(run.measures, "loss"),
            *(show_measure(run.measures, name) for name in names),
            *(_cell(run.config.get(key, ABSENT)) for key in varied),
        )
        for run in runs
    ]
    return Table("", ("run", "state", "step", "MB", "loss", *names, *varied), tuple(rows))


def _varied(runs: Sequence[RunEntry]) -> list[str]:
    """The keys that configs differ in."""
    values = [{key: run.config[key] for key in run.config if key not in NAMING} for run in runs]
    return list(dict.fromkeys(key for setting in group_runs(runs, values, ()) for key in setting.values))


def _cell(value: Any) -> str:
    return ABSENT if value == ABSENT else shorten(printable(show_value(value)), MAX_CELL)


def _holds(run: RunEntry, condition: str, every: Sequence[RunEntry]) -> bool:
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise UserError(
            f"The condition {show(condition)} cannot be read: expected NAME=VALUE, or !=, <, <=, > or >=, "
            "such as 'accuracy>0.9'."
        )
    name, sign, wanted = match.groups()
    _check_known(name, every)
    value = run.value(name)
    if sign in ("=", "!="):
        is_same = wanted == show_value(value) or wanted == str(value) or _number(wanted) == _number(value)
        return is_same == (sign == "=")
    if math.isnan(_number(wanted)):
        raise UserError(f"{show(condition)} compares numbers: expected one, got {show(wanted)}.")
    return COMPARE[sign](_number(value), _number(wanted))


def _check_known(name: str, every: Sequence[RunEntry]) -> None:
    if all(run.value(name) is None for run in every):
        raise UserError(f"No run has {show(name)}: expected a measure, a key of the configs, state or MB.")
    keys = sorted({key for run in every if name not in run.measures for key in run.keys(name)})
    if len(keys) > 1 and name not in ("name", *keys):
        raise UserError(f"{show(name)} may be {' or '.join(keys)}: write one of these.")


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _order(value: Any) -> tuple[int, float, str]:
    number = _number(value)
    return (2, 0.0, "") if value is None else (1, 0.0, str(value)) if math.isnan(number) else (0, number, "")


def megabytes(n_bytes: int) -> str:
    """As tables show them, without the unit."""
    return f"{n_bytes / 1e6:,.1f}"


def _print(table: Table) -> None:
    """On a terminal as wide as that; elsewhere a row is a line."""
    console = Console()
    if console.is_terminal:
        console.print(table.fitting(console.width).to_rich())
    else:
        Console(width=WIDE).print(table.to_rich())


def _tell_problems(runs: Sequence[RunEntry]) -> None:
    for problem in (problem for run in runs for problem in run.problems):
        print(f"damaged  {printable(problem)}")
