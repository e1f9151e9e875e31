"""One table of all runs of a grid, and what it says over seeds."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanollama.errors import MissingExtraError, UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.states import check_folder, inspect
from nanollama.monitor.files import write_atomically
from nanollama.monitor.run_folder import ENVIRONMENT
from nanollama.report.aggregate import headline_names, over_seeds
from nanollama.report.grouping import Setting
from nanollama.report.tables import show_mean
from nanollama.statistics import Interval
from nanollama.wording import count

Row = dict[str, Any]

FACTS = ("status", "decided", "step", "seconds", "n_params", "config_hash")
"""What a row tells of the result, beside its measures."""


def collect(plan: Plan) -> list[Row]:
    """One row for each run that has a result: what varies, how it ended, its measures, its commit.

    Raises:
        UserError: a folder holds the result of another run, as when the config has changed since.
    """
    return [row for run in plan.runs if (row := _row(run))]


def _row(run: GridRun) -> Row:
    state = inspect(run)
    result = state.result
    if not result:
        return {}
    check_folder(run, state)
    values = {key: value if _is_plain(value) else json.dumps(value) for key, value in run.values.items()}
    metrics = {name: value for name, value in result.get("metrics", {}).items() if name not in values}
    facts = {key: result.get(key) for key in FACTS}
    return {"run": run.name, **values, **facts, "commit": _commit(run), **metrics}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _commit(run: GridRun) -> str | None:
    """The commit a run was made with; a plus sign says that files had been changed since."""
    try:
        environment = json.loads((run.folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    commit = environment.get("commit")
    return f"{commit}+" if commit and environment.get("diff") else commit


def finished_settings(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[Setting[Mapping[str, Any]]]:
    """The settings of a grid that have finished runs, with the rows of those; rows are of `collect`."""
    finished = {row["run"]: row for row in rows if row["status"] == "finished"}
    settings = (setting.read(lambda run: finished.get(run.name)) for setting in plan.settings)
    return [setting for setting in settings if setting.by_seed]


def intervals(setting: Setting[Mapping[str, Any]]) -> dict[str, Interval]:
    """The intervals over seeds of the numbers in rows; one that a row lacks has none."""
    found = {name: over_seeds(setting, name) for name in setting.runs[0]}
    return {name: interval for name, interval in found.items() if interval is not None}


def summary_lines(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """What the finished seeds of each setting make of the measures that runs are compared by.

    Measures whose names have slashes are details, for the file only.
    """
    for setting in finished_settings(plan, rows):
        measures = intervals(setting)
        names = _compared([name for name in measures if name not in plan.runs[0].values])
        yield f"{setting.label} ({count(setting.n_seeds, 'seed')})"
        width = max(map(len, names), default=0)
        yield from (f"  {name:<{width}}  {show_mean(measures[name])}" for name in names)


def _compared(measures: Sequence[str]) -> list[str]:
    """Size, loss, and the measures that a report shows."""
    first = [name for name in ("n_params", "loss") if name in measures]
    hidden = {"step", "seconds", *first}
    return first + headline_names([name for name in measures if name not in hidden and "/" not in name])


def write_table(rows: Sequence[Mapping[str, Any]], out: str | Path) -> Path:
    """Write rows as CSV or Parquet, by the ending of the path.

    Raises:
        UserError: another ending, or the file cannot be written.
        MissingExtraError: Parquet without pyarrow.
    """
    path = Path(out)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        if path.suffix == ".csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(path, text.getvalue())
        elif path.suffix == ".parquet":
            _write_parquet({name: [row.get(name) for row in rows] for name in columns}, path)
        else:
            raise UserError(f"The table '{path}' has an unknown ending: expected .csv or .parquet.")
    except OSError as error:
        raise UserError(f"The table {path} cannot be written: {error.strerror or error}.") from error
    return path


def _write_parquet(columns: Mapping[str, Sequence[Any]], path: Path) -> None:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    parquet.write_table(arrow.table(dict(columns)), path)
