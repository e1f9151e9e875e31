"""What the page of any grid shows: claims, measures of settings, curves, cost, failures, configs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from statistics import fmean
from typing import Any
from urllib.parse import quote

from nanollama.launcher.attempts import OUTPUT, tail
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.results import Finished, GridResults, final
from nanollama.launcher.grid.verdict import Verdict
from nanollama.launcher.grid.verdict_table import changed_claims, changed_lines, missing_lines, verdict_table
from nanollama.launcher.states import inspect
from nanollama.measures import ABSENT, is_number, show_interval, show_number, spell
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import DIALOGS, METRICS
from nanollama.report import OUTPUT as REPORT
from nanollama.report.aggregate import NAMING, flatten, is_share, seeds_or_own
from nanollama.report.figures import SHARE_RANGE, plot_curves
from nanollama.report.grouping import Setting, goes_with, series_labels, short_keys, show_value
from nanollama.report.page import Block, Dialogs, Folded, Links, Listing, Picture, Section, Words
from nanollama.report.runs import read_samples
from nanollama.report.sections import dialog_section
from nanollama.report.tables import Table, peak_memory_mib, show_mean
from nanollama.statistics import Interval
from nanollama.wording import count

MAX_LINES = 12
"""More of them in a figure cannot be told apart."""
MAX_LISTED = 20
N_LINES = 15
"""Of what a failed run printed last."""
BRACKETS = "95 % intervals, of a single run its own"
BANDS = f"Means over seeds; bands are {BRACKETS}."

Point = tuple[str, float, Interval]
"""The name of a line, a place on the horizontal axis, and what was found there."""


def result_sections(grid: GridResults, results: Table) -> list[Section]:
    """What was found, in general.

    Args:
        grid: what it has come to.
        results: the table of its settings.
    """
    return [
        Section("Claims", claim_blocks(grid.verdicts, grid.plan.told)),
        Section("Results", (results,) if grid.settings else ()),
        dialog_section(dialog_blocks(grid)),
        Section("Against what varies", tuple(axis_pictures(grid))),
        Section("Through training", training_blocks(grid)),
    ]


def cost_sections(grid: GridResults) -> list[Section]:
    """What it took, what went wrong, and what exactly was run."""
    return [
        Section("Cost", (cost_table(grid),) if grid.settings else ()),
        Section("Not finished", unfinished_blocks(grid)),
        Section("Configs", difference_blocks(grid)),
        Section("Runs", run_links(grid)),
    ]


def claim_blocks(verdicts: Sequence[Verdict], told: str) -> tuple[Block, ...]:
    """The verdicts on the runs that are told of, and the pairs that they are about."""
    if not verdicts:
        return ()
    pairs = [
        Folded(f"{verdict.expectation.claim}: by seed", pairs_table(verdict))
        for verdict in verdicts
        if verdict.pairs
    ]
    changed = changed_claims([verdict.expectation for verdict in verdicts])
    lines = [*missing_lines(verdicts), *changed_lines(changed)]
    return (verdict_table(verdicts, told), *map(Words, lines), *pairs)


def pairs_table(verdict: Verdict) -> Table:
    """One row a pair: the value of a run, that of the run it is compared with, and both together."""
    rows = [
        (name, str(first), str(other), str(compared))
        for (name, first, other), compared in zip(verdict.pairs, verdict.found, strict=True)
    ]
    together = "ratio" if verdict.expectation.over is not None else "difference"
    caption = f"Each run with that of its seed: {spell(verdict.expectation.subject)}; >: more than that."
    return Table(caption, ("run", "its own", "compared with", together), tuple(rows))


def measures_table(grid: GridResults) -> Table:
    """After the last step, a row a setting; a measure that one of its runs lacks has no mean."""
    rows = [
        (setting.label, str(setting.n_seeds), *(show_mean(final(setting, name)) for name in grid.measures))
        for setting in grid.settings
    ]
    caption = f"After the last step: means over seeds, in brackets {BRACKETS}."
    return Table(caption, ("setting", "seeds", *map(spell, grid.measures)), tuple(rows))


def dialog_blocks(grid: GridResults) -> tuple[Dialogs, ...]:
    """What the first run of each setting has left of dialogs, where settings are few enough to be read."""
    if len(grid.settings) > MAX_LINES:
        return ()
    samples = (
        Dialogs(setting.label, tuple(read_samples(setting.runs[0].run.folder / DIALOGS)))
        for setting in grid.settings
    )
    return tuple(found for found in samples if found.dialogs)


def axis_pictures(grid: GridResults) -> Iterator[Picture]:
    """Each measure after the last step against each number that varies; other values tell lines apart.

    A number that goes with an earlier one, as in a zip, is no axis of its own.
    """
    known = grid.plan.settings
    axes = short_keys(known[0].parts)
    for index, (key, axis) in enumerate(axes.items()):
        if any(goes_with(known, key, _place_on(earlier)) for earlier in list(axes)[:index]):
            continue
        if not all(is_number(setting.values.get(key)) for setting in known):
            continue
        lines = series_labels(known, _place_on(key))
        for name in grid.measures:
            points = [
                (lines[setting.label], setting.values[key], found)
                for setting in grid.settings
                if (found := final(setting, name))
            ]
            if len({place for _, place, _ in points}) > 1 and len({line for line, *_ in points}) <= MAX_LINES:
                yield draw_means(f"{name}_by_{axis}", points, axis, name)


def training_blocks(grid: GridResults) -> tuple[Block, ...]:
    """Each measure by step, a line a setting; one that never changes (an exact floor) has no curve."""
    if len(grid.settings) > MAX_LINES:
        words = f"{count(len(grid.settings), 'setting')} are too many lines for a figure"
        return (Words(f"{words}: `nanollama report RUN ...` draws chosen runs."),)
    pictures = []
    for name in grid.measures:
        points = [point for setting in grid.settings for point in curve(setting, name)]
        n_values = len({(label, found.mean) for label, _, found in points})
        changes = n_values > len({label for label, *_ in points})
        if changes and len({step for _, step, _ in points}) > 1:
            pictures.append(draw_means(f"{name}_by_step", points, "optimizer steps", name))
    go_on = any(done.n_before for setting in grid.settings for done in setting.runs)
    said = Words(
        "A run that goes on with the weights and moments of another is drawn after the steps of that."
    )
    return (said, *pictures) if pictures and go_on else tuple(pictures)


def curve(setting: Setting[Finished], name: str) -> Iterator[Point]:
    """A measure over the seeds of a setting at each step that one of its runs was evaluated at.

    A run that has stopped before the others keeps its last value; where one lacks the measure, none is told.
    """
    n_before = max(done.n_before for done in setting.runs)
    for step in sorted({row["step"] for done in setting.runs for row in done.evals}):
        found = seeds_or_own(setting.read(lambda done, step=step: done.at(step)), name)  # type: ignore[misc]
        if found is not None:
            yield setting.label, n_before + step, found


def draw_means(
    name: str, points: Iterable[Point], x_label: str, measure: str, caption: str = BANDS
) -> Picture:
    """Means and their intervals as lines with bands.

    Args:
        name: of the picture.
        points: in any order.
        x_label: of the horizontal axis.
        measure: on the vertical axis.
        caption: said after what is drawn.
    """
    rows: list[dict[str, Any]] = [
        {"run": line, "place": place, "mean": found.mean, "low": found.low, "high": found.high}
        for line, place, found in sorted(points, key=lambda point: point[1])
    ]
    what = spell(measure)
    figure = plot_curves(
        rows,
        "place",
        "mean",
        low="low",
        high="high",
        x_label=x_label,
        y_label=what,
        log_x=_spans_decades([row["place"] for row in rows]),
        y_range=SHARE_RANGE if is_share(measure, (row["mean"] for row in rows)) else None,
    )
    last = {row["run"]: row["mean"] for row in rows}
    words = "; ".join(f"{line} ends at {show_interval(mean)}" for line, mean in last.items())
    said = f"{what[:1].upper()}{what[1:]} by {x_label}"
    return Picture(name.replace("/", "_"), figure, f"{said}. {caption}", f"{said}: {words}.")


def cost_table(grid: GridResults) -> Table:
    """What the runs of each setting took."""
    rows, total = [], 0.0
    for setting in grid.settings:
        known = [seconds for done in setting.runs if is_number(seconds := done.row.get("seconds"))]
        total += sum(known)
        first = setting.runs[0].row
        mean = show_number(float(f"{fmean(known):.3g}")) if known else ABSENT
        size, steps = show_number(first.get("n_params")), show_number(first.get("step"))
        metrics = (RowFile(done.run.folder / METRICS).read() for done in setting.runs)
        peaks = [most for rows_of in metrics if (most := peak_memory_mib(rows_of)) is not None]
        peak = show_number(round(max(peaks))) if peaks else ABSENT
        rows.append((setting.label, str(len(setting.runs)), size, steps, mean, peak))
    caption = f"Cost of a run; all finished ones together took {total / 3600:.2f} hours."
    columns = ("setting", "runs", "parameters", "steps", "seconds", "peak memory, MiB")
    return Table(caption, columns, tuple(rows))


def unfinished_blocks(grid: GridResults) -> tuple[Block, ...]:
    """Runs that have not finished, why, and what those that failed printed last."""
    finished = {done.run.name for setting in grid.settings for done in setting.runs}
    states = [(run, inspect(run, grid.queue)) for run in grid.plan.runs if run.name not in finished]
    if not states:
        return ()
    rows = [(run.name, state.kind, state.reason or ABSENT) for run, state in states]
    kept = f"; the first {MAX_LISTED} of {len(rows):,}" if len(rows) > MAX_LISTED else ""
    table = Table(f"Runs that have not finished{kept}.", ("run", "state", "reason"), tuple(rows[:MAX_LISTED]))
    failed = [run for run, state in states if state.kind == "failed"][:MAX_LISTED]
    return (table, *(_last_lines(run) for run in failed))


def difference_blocks(grid: GridResults) -> tuple[Block, ...]:
    """What differs between the configs of settings, also what goes with an arm."""
    runs = [setting.runs[0] for setting in grid.plan.settings]
    if len(runs) < 2:
        return ()
    trees = (flatten(run.config.model_dump(mode="json")) for run in runs)
    configs = [{key: show_value(value) for key, value in tree.items() if key not in NAMING} for tree in trees]
    keys = [
        key
        for key in dict.fromkeys(chain(*configs))
        if key != grid.plan.seed_key and len({config.get(key) for config in configs}) > 1
    ]
    rows = [
        (setting.label, *(config.get(key, ABSENT) for key in keys))
        for setting, config in zip(grid.plan.settings, configs, strict=True)
    ]
    caption = "Keys on which the configs of settings differ."
    return (Folded("What differs", Table(caption, ("setting", *keys), tuple(rows))),)


def run_links(grid: GridResults) -> tuple[Block, ...]:
    """The page of each run that has one, else its folder, where there is one."""
    links = []
    for run in grid.plan.runs:
        found = next((path for path in (run.folder / REPORT, run.folder) if path.exists()), None)
        if found is not None:
            path = quote(os.path.relpath(found, grid.plan.folder)) + ("/" if found.is_dir() else "")
            links.append((run.name, path))
    title = f"Folders of {count(len(links), 'run')}; `nanollama report RUN` gives one a page"
    return (Links(title, tuple(links)),) if links else ()


def _last_lines(run: GridRun) -> Listing:
    lines = [line for line in tail(run.folder / OUTPUT) if line.strip()][-N_LINES:]
    return Listing(f"{run.name}: last lines", "\n".join(lines) or "It has printed nothing.")


def _place_on(key: str) -> Callable[[Setting[Any]], Any]:
    return lambda setting: setting.values[key]


def _spans_decades(places: Sequence[float]) -> bool:
    """Is a logarithmic axis clearer? A place at 0 has none."""
    return min(places) > 0 and max(places) / min(places) >= 16 and len(set(places)) > 2
