"""One table of all runs of a grid, and what it says over seeds."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from nanollama.errors import MissingExtraError, UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.states import check_folder, inspect
from nanollama.monitor.files import write_atomically
from nanollama.monitor.run_folder import ENVIRONMENT
from nanollama.report.aggregate import headline_names, mean_interval
from nanollama.report.grouping import Setting
from nanollama.wording import count

Row = dict[str, Any]

FACTS = ("status", "decided", "step", "seconds", "n_params", "config_hash")
"""What a row tells of the result, beside its measures."""


@dataclass(frozen=True)
class Interval:
    """A mean over runs and its 95 % confidence interval, mean -+ half_width (Student's t).

    The half width of a single run is not known: NaN.
    """

    mean: float
    half_width: float
    n: int

    def __str__(self) -> str:
        mean = f"{self.mean:,.0f}" if self.mean.is_integer() else f"{self.mean:.4g}"
        return mean if math.isnan(self.half_width) else f"{mean} +- {self.half_width:.2g}"


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


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % confidence interval of independent measurements."""
    mean, _, high = mean_interval(values)
    return Interval(mean, high - mean, len(values))


def finished_settings(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[Setting[Mapping[str, Any]]]:
    """The settings of a grid that have finished runs, with the rows of those; rows are of `collect`."""
    finished = {row["run"]: row for row in rows if row["status"] == "finished"}
    settings = (setting.read(lambda run: finished.get(run.name)) for setting in plan.settings)
    return [setting for setting in settings if setting.by_seed]


def intervals(setting: Setting[Mapping[str, Any]]) -> dict[str, Interval]:
    """The intervals over seeds of the numbers in rows; one that a row lacks has none."""
    first, *others = setting.runs
    names = [name for name in first if all(_is_number(row.get(name)) for row in (first, *others))]
    return {name: interval(setting.over_seeds(itemgetter(name))) for name in names}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def summary_lines(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """What the finished seeds of each setting make of the measures that runs are compared by.

    Measures whose names have slashes are details, for the file only.
    """
    for setting in finished_settings(plan, rows):
        measures = intervals(setting)
        names = _compared([name for name in measures if name not in plan.runs[0].values])
        yield f"{setting.label} ({count(setting.n_seeds, 'seed')})"
        width = max(map(len, names), default=0)
        yield from (f"  {name:<{width}}  {measures[name]}" for name in names)


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
