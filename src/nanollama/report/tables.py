"""Tables of texts: on the terminal, as Markdown, as CSV and, through the page, as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from nanollama.measures import ABSENT, HIGH, LOW, is_number, show_interval, show_measure, show_number, spell
from nanollama.report.aggregate import final_measures, group_by_seed, headlines, over_seeds
from nanollama.report.runs import RunRecord
from nanollama.statistics import Interval
from nanollama.wording import printable

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Cells as texts; the first column names the rows.

    Args:
        caption: what it shows, one sentence.
        columns: names of the columns.
        rows: as many cells a row as there are columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kind: Literal["table"] = "table"

    def to_markdown(self) -> str:
        """A GitHub table, aligned so that it reads well as plain text too."""
        lines = [tuple(map(_escape_markdown, row)) for row in (self.columns, *self.rows)]
        widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
        rule = ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
        padded = [_pad(row, widths) for row in (lines[0], rule, *lines[1:])]
        return "".join(f"| {' | '.join(row)} |\n" for row in padded)

    def turned(self) -> Table:
        """The same cells with rows as columns."""
        columns, *rows = zip(self.columns, *self.rows, strict=True)
        return replace(self, columns=columns, rows=tuple(rows))

    def fitting(self, width: int) -> Table:
        """The table, or the turned one where only that fits a width; cells take several lines if need be."""

        def needed(table: Table, split: Callable[[str], list[str]]) -> int:
            columns = zip(table.columns, *table.rows, strict=True)
            return sum(max(len(part) for cell in column for part in split(cell)) + 2 for column in columns)

        ways: list[Callable[[str], list[str]]] = [lambda cell: [cell], lambda cell: cell.split() or [""]]
        fit = (table for split in ways for table in (self, self.turned()) if needed(table, split) <= width)
        return next(fit, self)

    def to_rich(self) -> RichTable:
        """For the terminal, which no cell and no name of a column steers."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(printable(self.caption)), box=box.SIMPLE_HEAD, title_justify="left")
        for number, column in enumerate(map(printable, self.columns)):
            table.add_column(Text(column), justify="left" if number == 0 else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))  # as text: brackets are not markup
        return table


def results_table(runs: Sequence[RunRecord]) -> Table:
    """One row a run: how far it came, its size, its cost and the measures that matter."""
    names, is_behind = headlines(runs), any(map(_is_behind, runs))
    rows = []
    for run in runs:
        measures = final_measures(run)
        last = run.metrics[-1] if run.metrics else {}
        rows.append(
            (
                run.name,
                _status(run),
                show_number(run.result.get("step", last.get("step"))),
                *([show_number(run.evals[-1]["step"] if run.evals else None)] if is_behind else []),
                show_number(run.result.get("n_params")),
                show_number(run.result.get("seconds", last.get("elapsed_seconds"))),
                show_number(last.get("loss")),
                *(show_measure(measures, name) for name in names),
            )
        )
    steps = ("steps", "evaluated at") if is_behind else ("steps",)
    columns = ("run", "status", *steps, "parameters", "seconds", "training loss (nats)", *map(spell, names))
    return Table(f"Results at the last evaluation{_brackets(runs)}.", columns, tuple(rows))


def seeds_table(runs: Sequence[RunRecord]) -> Table | None:
    """Means over finished runs that differ in their seed alone; None when there are none.

    A measure that one of these runs lacks has no mean.
    """
    groups = group_by_seed([run for run in runs if run.result.get("status") == "finished"])
    if all(setting.n_seeds == 1 for _, setting in groups):
        return None
    names = headlines(runs)
    rows = []
    for label, setting in groups:
        finals = setting.read(final_measures)
        cells = [label, str(setting.n_seeds)]
        for name in names:
            cells.append(show_mean(over_seeds(finals, name)))
        rows.append(tuple(cells))
    caption = "Means over seeds of finished runs, in brackets 95 % intervals of the mean."
    return Table(caption, ("runs", "seeds", *map(spell, names)), tuple(rows))


def measures_table(runs: Sequence[RunRecord]) -> Table | None:
    """Every measure of the last evaluation, one row each, one column a run; None when there are none."""
    measures = [final_measures(run) for run in runs]
    names = list(dict.fromkeys(name for row in measures for name in row))
    bounds = {name + end for name in names for end in (LOW, HIGH)}
    rows = tuple(
        (spell(name), *(show_measure(row, name) for row in measures)) for name in names if name not in bounds
    )
    if not rows:
        return None
    caption = f"All measures of the last evaluation{_brackets(runs)}."
    return Table(caption, ("measure", *(run.name for run in runs)), rows)


def speed_table(runs: Sequence[RunRecord]) -> Table | None:
    """Throughput, memory and where the seconds went; None when no run has metrics."""
    runs = [run for run in runs if run.metrics]
    if not runs:
        return None
    phases = [name for name in dict.fromkeys(k for run in runs for row in run.metrics for k in row)]
    phases = [name for name in phases if name.endswith("_seconds") and name != "elapsed_seconds"]
    rates = {
        "tokens_per_second": "tokens/s",
        "examples_per_second": "examples/s",
        "flops_per_second": "FLOP/s",
    }
    rows = []
    for run in runs:
        spent = {name: sum(row.get(name) or 0.0 for row in run.metrics) for name in phases}
        total = sum(spent.values())
        shares = [f"{spent[name] / total:.0%}" if total else ABSENT for name in phases]
        medians = (show_number(_median(run, name)) for name in rates)
        rows.append((run.name, *medians, show_number(peak_memory_mib(run.metrics)), *shares))
    spoken = [spell(name.removesuffix("_seconds")) for name in phases]
    caption = "Speed: medians over the rows of training, the peak of its memory, and shares of its seconds."
    return Table(caption, ("run", *rates.values(), "peak memory (MiB)", *spoken), tuple(rows))


def peak_memory_mib(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """The most of any row of metrics: each process of a run that was stopped counts its own peak anew."""
    return max((peak for row in rows if is_number(peak := row.get("peak_memory_mib"))), default=None)


def show_mean(found: Interval | None) -> str:
    """A mean with its interval; a dash where there is none."""
    return ABSENT if found is None else show_interval(*found[:3])


def _brackets(runs: Sequence[RunRecord]) -> str:
    """How a caption goes on when cells hold intervals."""
    has_intervals = any(name.endswith(LOW) for run in runs for name in final_measures(run))
    return ", in brackets 95 % confidence intervals" if has_intervals else ""


def _status(run: RunRecord) -> str:
    """In the words that grids have for it."""
    status = str(run.result.get("status", "unfinished"))
    return "stopped" if status == "preempted" else status


def _is_behind(run: RunRecord) -> bool:
    """Has it learned on after its last evaluation, as one that was stopped has?"""
    last = run.metrics[-1] if run.metrics else {}
    return bool(run.evals) and run.evals[-1]["step"] != run.result.get("step", last.get("step"))


def _median(run: RunRecord, name: str) -> float | None:
    values = [row[name] for row in run.metrics if isinstance(row.get(name), int | float)]
    return median(values) if values else None


def _escape_markdown(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _pad(row: Sequence[str], widths: Sequence[int]) -> tuple[str, ...]:
    first, *others = zip(row, widths, strict=True)
    return (first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others))
