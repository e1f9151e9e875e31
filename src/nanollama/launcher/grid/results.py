"""One table of all runs of a grid, and what it says over seeds."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from nanollama.errors import MissingExtraError, UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.made import commits_of
from nanollama.launcher.grid.measured import check_measured
from nanollama.launcher.grid.verdict import Verdict
from nanollama.launcher.plan import Plan
from nanollama.launcher.slurm.queue import Queue, read_queue
from nanollama.launcher.states import check_folder, inspect, is_to_start_anew
from nanollama.measures import FACTS, headline_names, is_number
from nanollama.monitor.files import read_json, write_csv
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.monitor.successor import ENVIRONMENT, is_ordered_anew
from nanollama.report.aggregate import seeds_or_own
from nanollama.report.grouping import Setting
from nanollama.report.tables import show_mean
from nanollama.statistics import Interval
from nanollama.studies import find_study
from nanollama.wording import count

Row = Mapping[str, Any]


def collect(plan: Plan) -> list[Row]:
    """One row for each run that has a result: what varies, how it ended, its measures, its commits.

    Raises:
        UserError: a folder holds the result of another run, as when the config has changed since; or some
            runs were measured on other examples than the rest, see `check_measured`.
    """
    ordered = any(is_ordered_anew(run.folder) for run in plan.runs)
    queue = read_queue() if ordered else None  # it tells whose order is void
    rows: list[Row] = []
    noted: dict[str, Any] = {}
    for run in plan.runs:
        environment = read_json(run.folder / ENVIRONMENT)
        if row := _row(run, queue, environment):
            rows.append(row)
            if row["status"] == "finished":
                noted[run.name] = environment.get("measured")
    check_measured(noted, plan.folder)
    return rows


def _row(run: GridRun, queue: Queue | None, environment: Mapping[str, Any]) -> Row:
    state = inspect(run, queue)
    result = state.result
    if not result or is_to_start_anew(run, queue):
        return {}
    check_folder(run, state)
    values = {key: value if _is_plain(value) else json.dumps(value) for key, value in run.values.items()}
    measured = result.get("metrics")
    measured = measured if isinstance(measured, dict) else {}
    if both := sorted(values.keys() & measured.keys()):
        raise UserError(
            f"The run {run.folder} measured '{both[0]}', which is a key that the grid varies as well, so "
            "that a claim about it could mean either: give the measure another name and train the runs anew, "
            "or vary another key."
        )
    facts = {key: result.get(key) for key in FACTS}
    return {"run": run.name, **values, **facts, "commit": commits_of(environment), **measured}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


@dataclass(frozen=True)
class Finished:
    """A finished run of a grid.

    Args:
        run: what it was.
        row: what it came to; see `collect`.
        evals: its evaluations by step, at least one; what `row` measured where it left none.
        n_before: steps of the run that it goes on from, with its weights and its moments.
    """

    run: GridRun
    row: Row
    evals: Sequence[Row]
    n_before: int = 0

    def at(self, step: int) -> Row:
        """The evaluation at a step, empty if there was none; past its last one, a run keeps that."""
        last = self.evals[-1]
        return last if step >= last["step"] else self._by_step.get(step, {})

    @cached_property
    def _by_step(self) -> dict[int, Row]:
        return {row["step"]: row for row in self.evals}


@dataclass(frozen=True)
class GridResults:
    """What a grid has come to: what its page is drawn from.

    Args:
        plan: the grid.
        rows: of `collect`.
        verdicts: on its claims.
    """

    plan: Plan
    rows: Sequence[Row]
    verdicts: Sequence[Verdict] = ()

    @cached_property
    def queue(self) -> Queue | None:
        """What Slurm holds, asked once; None when it cannot be asked."""
        return read_queue()

    @cached_property
    def settings(self) -> list[Setting[Finished]]:
        """Those that have finished runs, in the order of the grid."""
        finished = {row["run"]: row for row in self.rows if row["status"] == "finished"}

        def read(run: GridRun) -> Finished | None:
            row = finished.get(run.name)
            if row is None:
                return None
            evals = RowFile(run.folder / EVALS).read() or [{**row, "step": row.get("step") or 0}]
            return Finished(run, row, evals, self._n_before(run))

        settings = (setting.read(read) for setting in self.plan.settings)
        return [setting for setting in settings if setting.by_seed]

    def _n_before(self, run: GridRun) -> int:
        """Steps of a run's ancestors, as far back as each goes on with the moments of the one before."""
        n_steps = 0
        while run.after and run.config.interventions[0].optimizer:  # type: ignore[attr-defined]
            run = next(other for other in self.plan.runs if other.name == run.after[0])
            n_steps += next((row["step"] for row in self.rows if row["run"] == run.name), 0)
        return n_steps

    @cached_property
    def measures(self) -> list[str]:
        """Names of the measures to compare settings by: what claims are about, then what reports show.

        Measures whose names have slashes are details, unless a claim is about them.
        """
        known = dict.fromkeys(name for setting in self.settings for done in setting.runs for name in done.row)
        shown = find_study(self.plan.study).measures or headline_names(
            [name for name in known if "/" not in name and name not in {*FACTS, *self.plan.runs[0].values}]
        )
        claimed = [verdict.expectation.measure for verdict in self.verdicts]
        return [
            name
            for name in dict.fromkeys([*claimed, "loss", *shown])
            if name in known and self._is_measure(name)
        ]

    def _is_measure(self, name: str) -> bool:
        return any(is_number(done.row.get(name)) for setting in self.settings for done in setting.runs)


def final(setting: Setting[Finished], name: str) -> Interval | None:
    """A measure after the last step, over the seeds of a setting; None where one of its runs lacks it.

    The interval of a single run is its own.
    """
    return seeds_or_own(setting.read(attrgetter("row")), name)


def summary_lines(results: GridResults) -> Iterator[str]:
    """What the finished seeds of each setting make of the measures that settings are compared by."""
    for setting in results.settings:
        names = ["n_params", *results.measures]
        shown = {name: show_mean(found) for name in names if (found := final(setting, name))}
        yield f"{setting.label} ({count(setting.n_seeds, 'seed')})"
        width = max(map(len, shown), default=0)
        yield from (f"  {name:<{width}}  {words}" for name, words in shown.items())


def write_table(rows: Sequence[Mapping[str, Any]], out: str | Path) -> Path:
    """Write rows as CSV or Parquet, by the ending of the path.

    Raises:
        UserError: another ending, or the file cannot be written.
        MissingExtraError: Parquet without pyarrow.
    """
    path = Path(out)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".csv":
        write_csv(path, columns, ([row.get(name) for name in columns] for row in rows))
    elif path.suffix == ".parquet":
        _write_parquet({name: [row.get(name) for row in rows] for name in columns}, path)
    else:
        raise UserError(f"The table '{path}' has an unknown ending: expected .csv or .parquet.")
    return path


def _write_parquet(columns: Mapping[str, Sequence[Any]], path: Path) -> None:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    try:
        parquet.write_table(arrow.table(dict(columns)), path)
    except OSError as error:
        raise UserError(f"The table {path} cannot be written: {error.strerror or error}.") from error
