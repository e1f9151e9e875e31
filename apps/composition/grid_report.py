"""What the grids of this study show: accuracy by length, over training and against what varies, on one page.

The launcher calls `write` when a grid has ended, and whenever its results are asked for. The page is
``index.html`` in the folder of the grid; its figures (SVG, PDF, PNG) and tables (CSV) are in ``figures/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanollama.launcher.grid import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.verdict import Verdict, verdict_table
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.report.aggregate import over_seeds
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_curves
from nanollama.report.page import Block, Picture, Section
from nanollama.report.tables import Table, show_interval, spell
from nanollama.statistics import mean_interval
from nanollama.wording import count

BY_LENGTH = re.compile(r"test/accuracy/length_(\d+)")
MEASURES = (
    "test_accuracy",
    "test_accuracy_long",
    "eoi_peakiness_long",
    "iteration_peakiness_long",
    "iteration_entropy_bits",
    "ideal_maps_loss",
    "ideal_iteration_map_loss",
    "uniform_maps_over_chance",
)
"""What is told of each setting, where it was measured."""
OVER_TRAINING = MEASURES[1:5]
SHARES = set(MEASURES[:4])
RANGE = (-0.03, 1.03)
ALL_RUNS = "all runs"
"""The label where nothing sets runs apart but their seeds."""
BANDS = "Means over seeds; bands are their 95 % intervals."

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """Runs of a grid that differ in their seed alone.

    Args:
        label: what sets it apart from the others.
        values: what varies in the grid, seeds left out.
        evals: rows of ``evals.jsonl`` of each run.
    """

    label: str
    values: Mapping[str, Any]
    evals: tuple[Sequence[Row], ...]


def write(plan: Plan, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    """Write the page of a grid; see `nanollama.launcher.outcome`."""
    settings = read_settings(plan, {row["run"] for row in rows if row["status"] == "finished"})
    if not settings:
        return
    results: list[Block] = [verdict_table(verdicts)] if verdicts else []
    sections = [
        Section("Results", (*results, measures_table(settings))),
        Section("By length", tuple(length_pictures(settings))),
        Section("Against what varies", tuple(axis_pictures(settings))),
        Section("Over training", tuple(training_pictures(settings))),
    ]
    n_runs = sum(len(setting.evals) for setting in settings)
    lead = f"{n_runs} of {len(plan.runs)} runs have finished, of {count(len(settings), 'setting')}."
    page = plan.folder / "index.html"
    write_page(page, plan.name, lead, sections)
    save_parts(plan.folder / "figures", sections)
    print(f"wrote {page} and {plan.folder / 'figures'}")


def read_settings(plan: Plan, finished: set[str]) -> list[Setting]:
    """The finished runs of a grid, by setting, in the order of the grid."""
    groups: dict[str, list[GridRun]] = {}
    for run in plan.runs:
        if run.name in finished:
            groups.setdefault(_label(run, plan.seed_key), []).append(run)
    return [
        Setting(
            label,
            {key: value for key, value in runs[0].values.items() if key != plan.seed_key},
            tuple(RowFile(run.folder / EVALS).read() for run in runs),
        )
        for label, runs in groups.items()
    ]


def _label(run: GridRun, seed_key: str | None) -> str:
    """``polynomial, no chain_of_thought, n_layers 2``: values that speak for themselves stand alone."""
    words = []
    for key, value in run.values.items():
        name = key.rpartition(".")[2]
        if key == seed_key:
            continue
        if isinstance(value, bool):
            words.append(name if value else f"no {name}")
        elif isinstance(value, str):
            words.append(value)
        elif isinstance(value, list | dict):
            words.append(f"{name} {_brief(value)}")
        else:
            words.append(f"{name} {value}")
    return ", ".join(words) or ALL_RUNS


def _brief(value: Any) -> str:
    """A list or section in few words: its values without the names of their keys."""
    if isinstance(value, dict):
        return " ".join(_brief(part) for part in value.values())
    if isinstance(value, list):
        return ", ".join(_brief(part) for part in value) or "none"
    return str(value)


def measures_table(settings: Sequence[Setting]) -> Table:
    """The final evaluation, a row a setting."""
    finals = [[evals[-1] for evals in setting.evals] for setting in settings]
    names = [name for name in MEASURES if any(name in row for rows in finals for row in rows)]
    rows = []
    for setting, last in zip(settings, finals, strict=True):
        cells = [setting.label, str(len(last))]
        for name in names:
            there = [row for row in last if row.get(name) is not None]
            cells.append(show_interval(*over_seeds(there, name, name in SHARES)[:3]) if there else "-")
        rows.append(tuple(cells))
    caption = "At the last step: means over seeds [95 % intervals]; `long` is the upper half of lengths."
    return Table(caption, ("setting", "seeds", *map(spell, names)), tuple(rows))


def length_pictures(settings: Sequence[Setting]) -> Iterator[Picture]:
    """Accuracy by length at the last step, a line a setting."""
    points = [
        (setting.label, int(match[1]), [evals[-1][name] for evals in setting.evals])
        for setting in settings
        for name in setting.evals[0][-1]
        if (match := BY_LENGTH.fullmatch(name))
    ]
    if points:
        rows = _bands(points, "length", "test_accuracy")
        yield _picture("accuracy_by_length", rows, "length", "inputs of a sequence", "test_accuracy")


def axis_pictures(settings: Sequence[Setting]) -> Iterator[Picture]:
    """Each measure at the last step against each number that varies; other values tell lines apart.

    A number that goes with an earlier one, as in a zip, is no axis of its own.
    """
    keys = list(settings[0].values)
    for index, key in enumerate(keys):
        if any(_goes_with(settings, key, earlier) for earlier in keys[:index]):
            continue
        numbers = {setting.values[key] for setting in settings if _is_number(setting.values[key])}
        if len(numbers) < 2 or any(not _is_number(setting.values[key]) for setting in settings):
            continue
        axis = key.rpartition(".")[2]
        for name in MEASURES[1:4]:
            points = [
                (
                    _others(settings, setting, key),
                    setting.values[key],
                    [evals[-1][name] for evals in setting.evals],
                )
                for setting in settings
                if all(evals[-1].get(name) is not None for evals in setting.evals)
            ]
            if len({place for _, place, _ in points}) > 1:
                rows = _bands(points, axis, name)
                yield _picture(f"{name}_by_{axis}", rows, axis, axis, name)


def _goes_with(settings: Sequence[Setting], key: str, other: str) -> bool:
    """Does each value of ``other`` have but one value of ``key``?"""
    pairs = {(_brief(setting.values[other]), _brief(setting.values[key])) for setting in settings}
    return len(pairs) == len({value for value, _ in pairs})


def _others(settings: Sequence[Setting], setting: Setting, key: str) -> str:
    words = [
        f"{k.rpartition('.')[2]} {_brief(value)}"
        for k, value in setting.values.items()
        if not _goes_with(settings, k, key)
    ]
    return ", ".join(words) or ALL_RUNS


def training_pictures(settings: Sequence[Setting]) -> Iterator[Picture]:
    """Measures of every evaluation by step; steps that not all seeds have reached are left out."""
    for name in OVER_TRAINING:
        points = []
        for setting in settings:
            by_step: dict[int, list[float]] = {}
            for row in (row for evals in setting.evals for row in evals):
                if row.get(name) is not None:
                    by_step.setdefault(row["step"], []).append(row[name])
            points += [
                (setting.label, step, values)
                for step, values in by_step.items()
                if len(values) == len(setting.evals)
            ]
        if len({step for _, step, _ in points}) > 1:
            yield _picture(f"{name}_by_step", _bands(points, "step", name), "step", "optimizer steps", name)


def _bands(points: Iterable[tuple[str, float, list[float]]], x: str, measure: str) -> list[dict[str, Any]]:
    """Means and intervals as rows for a figure; a share's interval ends at 0 and 1."""
    rows = []
    for label, at, values in points:
        mean, low, high, _ = mean_interval(values, measure in SHARES)
        rows.append({"run": label, x: at, "mean": mean, "low": low, "high": high})
    return rows


def _picture(name: str, rows: list[dict[str, Any]], x: str, x_label: str, measure: str) -> Picture:
    rows = sorted(rows, key=lambda row: row[x])
    figure = plot_curves(
        rows,
        x,
        "mean",
        low="low",
        high="high",
        x_label=x_label,
        y_label=spell(measure),
        y_range=RANGE if measure in SHARES else None,
    )
    last = {row["run"]: row["mean"] for row in rows}
    words = "; ".join(f"{label} ends at {value:.3f}" for label, value in last.items())
    what = spell(measure).capitalize()
    return Picture(name, figure, f"{what} by {x_label}. {BANDS}", f"{what} by {x_label}: {words}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
