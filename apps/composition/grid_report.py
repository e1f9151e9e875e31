"""What the grids of this study show: accuracy by length, over training and against what varies, on one page.

The launcher calls `write` when a grid has ended, and whenever its results are asked for. The page is
``index.html`` in the folder of the grid; its figures (SVG, PDF, PNG) and tables (CSV) are in ``figures/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.results import finished_settings
from nanollama.launcher.grid.verdict import Verdict, verdict_table
from nanollama.launcher.plan import Plan
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.report.aggregate import is_share, over_seeds
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_curves
from nanollama.report.grouping import Setting, goes_with, series_labels, short_keys
from nanollama.report.page import Block, Picture, Section
from nanollama.report.tables import Table, show_mean, spell
from nanollama.statistics import Interval
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
RANGE = (-0.03, 1.03)
BANDS = "Means over seeds; bands are their 95 % intervals."

Row = Mapping[str, Any]
Evals = Sequence[Row]


def write(plan: Plan, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    """Write the page of a grid; see `nanollama.launcher.grid.outcome`."""
    settings = read_settings(plan, rows)
    if not settings:
        return
    results: list[Block] = [verdict_table(verdicts)] if verdicts else []
    sections = [
        Section("Results", (*results, measures_table(settings))),
        Section("By length", tuple(length_pictures(settings))),
        Section("Against what varies", tuple(axis_pictures(settings, plan.settings))),
        Section("Over training", tuple(training_pictures(settings))),
    ]
    n_runs = sum(len(setting.runs) for setting in settings)
    lead = f"{n_runs} of {len(plan.runs)} runs have finished, of {count(len(settings), 'setting')}."
    page = plan.folder / "index.html"
    write_page(page, plan.name, lead, sections)
    save_parts(plan.folder / "figures", sections)
    print(f"wrote {page} and {plan.folder / 'figures'}")


def read_settings(plan: Plan, rows: Sequence[Row]) -> list[Setting[Evals]]:
    """The settings of finished runs, in the order of the grid; a run is the rows of its ``evals.jsonl``."""
    return [
        setting.read(lambda row: RowFile(plan.by_name[row["run"]].folder / EVALS).read())
        for setting in finished_settings(plan, rows)
    ]


def measures_table(settings: Sequence[Setting[Evals]]) -> Table:
    """The final evaluation, a row a setting; a measure that one of its runs lacks has no mean."""
    finals = [evals[-1] for setting in settings for evals in setting.runs]
    names = [name for name in MEASURES if any(name in row for row in finals)]
    rows = []
    for setting in settings:
        cells = [setting.label, str(setting.n_seeds)]
        for name in names:
            cells.append(show_mean(_final(setting, name)))
        rows.append(tuple(cells))
    caption = "At the last step: means over seeds [95 % intervals]; `long` is the upper half of lengths."
    return Table(caption, ("setting", "seeds", *map(spell, names)), tuple(rows))


def length_pictures(settings: Sequence[Setting[Evals]]) -> Iterator[Picture]:
    """Accuracy by length at the last step, a line a setting."""
    points = [
        (setting.label, int(match[1]), found)
        for setting in settings
        for name in setting.runs[0][-1]
        if (match := BY_LENGTH.fullmatch(name)) and (found := _final(setting, name))
    ]
    if points:
        rows = _bands(points, "length")
        yield _picture("accuracy_by_length", rows, "length", "inputs of a sequence", "test_accuracy")


def axis_pictures(settings: Sequence[Setting[Evals]], known: Sequence[Setting[GridRun]]) -> Iterator[Picture]:
    """Each measure at the last step against each number that varies; other values tell lines apart.

    A number that goes with an earlier one, as in a zip, is no axis of its own.

    Args:
        settings: of finished runs.
        known: all of the grid.
    """
    axes = short_keys(known[0].parts)
    for index, (key, axis) in enumerate(axes.items()):
        if any(goes_with(known, key, _place_on(earlier)) for earlier in list(axes)[:index]):
            continue
        if not all(_is_number(setting.values[key]) for setting in known):
            continue
        lines = series_labels(known, _place_on(key))
        for name in MEASURES[1:4]:
            points = [
                (lines[setting.label], setting.values[key], found)
                for setting in settings
                if (found := _final(setting, name))
            ]
            if len({place for _, place, _ in points}) > 1:
                rows = _bands(points, axis)
                yield _picture(f"{name}_by_{axis}", rows, axis, axis, name)


def _place_on(key: str) -> Callable[[Setting[Any]], Any]:
    return lambda setting: setting.values[key]


def _final(setting: Setting[Evals], name: str) -> Interval | None:
    """A measure at the last step, over seeds."""
    return over_seeds(setting.read(itemgetter(-1)), name)


def training_pictures(settings: Sequence[Setting[Evals]]) -> Iterator[Picture]:
    """Measures of every evaluation by step; steps that not all seeds have reached are left out."""
    for name in OVER_TRAINING:
        points = [
            (setting.label, step, found)
            for setting in settings
            for step in {row["step"]: None for evals in setting.runs for row in evals}
            if (found := over_seeds(setting.read(partial(_at_step, step=step)), name))
        ]
        if len({step for _, step, _ in points}) > 1:
            yield _picture(f"{name}_by_step", _bands(points, "step"), "step", "optimizer steps", name)


def _at_step(evals: Evals, step: int) -> Row:
    return next((row for row in evals if row["step"] == step), {})


def _bands(points: Iterable[tuple[str, float, Interval]], x: str) -> list[dict[str, Any]]:
    """Means and intervals as rows for a figure."""
    return [
        {"run": label, x: at, "mean": found.mean, "low": found.low, "high": found.high}
        for label, at, found in points
    ]


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
        y_range=RANGE if is_share(measure) else None,
    )
    last = {row["run"]: row["mean"] for row in rows}
    words = "; ".join(f"{label} ends at {value:.3f}" for label, value in last.items())
    what = spell(measure).capitalize()
    return Picture(name, figure, f"{what} by {x_label}. {BANDS}", f"{what} by {x_label}: {words}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
