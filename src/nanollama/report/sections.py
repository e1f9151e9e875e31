"""What a report says about any runs: results, dialogs, curves, speed, configs, environments."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from nanollama.measures import ABSENT, HIGH, LOW, is_number, plain_names, show_measure, show_number, spell
from nanollama.report.aggregate import NAMING, flatten, headlines, is_share
from nanollama.report.figures import SHARE_RANGE, plot_curves
from nanollama.report.grouping import show_value
from nanollama.report.page import Block, Dialogs, Folded, Listing, Picture, Section, Words
from nanollama.report.runs import RunRecord
from nanollama.report.tables import Table, measures_table, results_table, seeds_table, speed_table
from nanollama.wording import shorten

MAX_ROWS = 200
"""Of a table that an examination wrote; the file has them all."""
MAX_CHARACTERS = 200
"""Of a value on which runs differ."""
OF_EACH_START = ("command", "started", "pid")
"""What no two starts have in common."""
_STEPS, _SECONDS = "optimizer steps", "time since the start (seconds)"


def report_sections(runs: Sequence[RunRecord]) -> list[Section]:
    """All sections of the general report."""
    return [
        Section("Results", results_blocks(runs)),
        Section("Examinations", examination_blocks(runs)),
        dialog_section([Dialogs(run.name, tuple(run.dialogs)) for run in runs if run.dialogs]),
        Section("Learning curves", (*loss_pictures(runs), *measure_pictures(runs))),
        Section("Speed", speed_blocks(runs)),
        Section("Configs and environments", origin_blocks(runs)),
    ]


def results_blocks(runs: Sequence[RunRecord]) -> tuple[Block, ...]:
    """Tables of the last evaluation; the table of all measures is folded."""
    seeds, measures = seeds_table(runs), measures_table(runs)
    blocks: list[Block] = [results_table(runs)]
    blocks += [seeds] if seeds else []
    blocks += [Folded("All measures", measures)] if measures else []
    return tuple(blocks)


def examination_blocks(runs: Sequence[RunRecord]) -> tuple[Block, ...]:
    """What ``eval`` has found of checkpoints: the measures as it prints them, then its tables, folded."""
    blocks: list[Block] = []
    for run in runs:
        for found in run.examinations:
            name = found.name if len(runs) == 1 else f"{run.name}: {found.name}"
            if shown := plain_names(found.measures):
                rows = tuple((spell(key), show_measure(found.measures, key)) for key in shown)
                blocks.append(Table(f"Examined: {name}.", ("measure", "value"), rows))
            blocks += [_fold(f"{name}: {title}", rows) for title, rows in found.tables.items() if rows]
    return tuple(blocks)


def _fold(title: str, rows: Sequence[Sequence[str]]) -> Folded:
    """A CSV file as a table; of a long one, its beginning."""
    columns, *cells = map(tuple, rows)
    cut = f", the first {MAX_ROWS} of {len(cells):,} rows" if len(cells) > MAX_ROWS else ""
    whole = tuple(row for row in cells[:MAX_ROWS] if len(row) == len(columns))
    return Folded(title, Table(f"As in its CSV file{cut}.", columns, whole))


def dialog_section(found: Sequence[Dialogs]) -> Section:
    """Sample dialogs, of which as many are wrong as right: the section says so."""
    words = Words("A few of each kind, right and wrong ones alike; the results say how often each occurs.")
    return Section("Dialogs", (words, *found) if found else ())


def loss_pictures(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    """The loss of training, by step; of several runs, whose paces differ, by second as well."""
    rows = _rows(runs, "metrics")
    if not any("loss" in row for row in rows):
        return ()
    alt = _describe("Training loss in nats a token", rows, "loss")
    figures = {
        "loss_by_step": ("step", _STEPS, "Training loss by step."),
        "loss_by_seconds": ("elapsed_seconds", _SECONDS, "Training loss by time."),
    }
    return tuple(
        Picture(
            name,
            plot_curves(rows, x, "loss", x_label=x_label, y_label="loss (nats a token)", log_y=True),
            f"{caption} Means over the steps between two rows; logarithmic axis.",
            alt,
        )
        for name, (x, x_label, caption) in list(figures.items())[: len(runs)]
    )


def measure_pictures(runs: Sequence[RunRecord]) -> tuple[Picture, ...]:
    """Each headline measure of the evaluations that changes, by step; of several runs, by second as well."""
    rows = _rows(runs, "evals")
    pictures = []
    for name in headlines(runs):
        if not _changes(rows, name):
            continue
        ends = (name, name + LOW, name + HIGH)
        drawn = [value for row in rows for end in ends if is_number(value := row.get(end))]
        axes = (("step", _STEPS, "step"), ("elapsed_seconds", _SECONDS, "seconds"))
        for x, x_label, by in axes[: len(runs)]:
            figure = plot_curves(
                rows,
                x,
                name,
                low=name + LOW,
                high=name + HIGH,
                x_label=x_label,
                y_label=spell(name),
                y_range=SHARE_RANGE if is_share(name, drawn) else None,
            )
            caption = f"{spell(name).capitalize()} by {'step' if by == 'step' else 'time'}."
            caption += (
                " Bands are 95 % confidence intervals."
                if any(is_number(row.get(name + LOW)) for row in rows)
                else ""
            )
            pictures.append(Picture(f"{name}_by_{by}", figure, caption, _describe(spell(name), rows, name)))
    return tuple(pictures)


def speed_blocks(runs: Sequence[RunRecord]) -> tuple[Block, ...]:
    """Throughput as a table and by step."""
    table = speed_table(runs)
    if table is None:
        return ()
    rows = _rows(runs, "metrics")
    figure = plot_curves(
        rows,
        "step",
        "tokens_per_second",
        x_label=_STEPS,
        y_label="tokens per second",
    )
    alt = _describe("Tokens per second", rows, "tokens_per_second")
    return (
        table,
        Picture("speed_by_step", figure, "Tokens of training per second, padding not counted.", alt),
    )


def origin_blocks(runs: Sequence[RunRecord]) -> tuple[Block, ...]:
    """Config and environment of a run exactly as they are in its folder; of several, what differs as well."""
    blocks: list[Block] = []
    if len(runs) > 1:
        configs = [flatten(run.config) for run in runs]
        blocks.append(difference_table("Keys on which the configs differ.", runs, configs, NAMING))
        environments = [flatten(run.environment) for run in runs]
        table = difference_table("What differs between the environments.", runs, environments, OF_EACH_START)
        blocks.append(Folded("Environments", table))
    for run in runs[:1]:
        blocks.append(Listing(f"{run.name}: config.yaml", run.config_text))
        if run.environment:
            text = json.dumps(run.environment, indent=2, ensure_ascii=False)
            blocks.append(Listing(f"{run.name}: environment.json", text))
    return tuple(blocks)


def difference_table(
    caption: str, runs: Sequence[RunRecord], values: Sequence[Mapping[str, Any]], but: Collection[str] = ()
) -> Table:
    """A row a run and a column a key on which they differ; where runs are few and keys many, turned."""
    shown = [{key: show_value(value) for key, value in one.items() if key not in but} for one in values]
    keys = [key for key in dict.fromkeys(chain(*shown)) if len({one.get(key) for one in shown}) > 1]
    rows = tuple(
        (run.name, *(shorten(one.get(key, ABSENT), MAX_CHARACTERS) for key in keys))
        for run, one in zip(runs, shown, strict=True)
    )
    table = Table(caption if keys else f"{caption[:-1]}: none.", ("run", *keys), rows)
    return table.turned() if len(runs) < len(keys) else table


def _rows(runs: Sequence[RunRecord], kind: str) -> list[dict[str, Any]]:
    """Rows of all runs with their run's name and the time at which their step was done."""
    return [
        {"elapsed_seconds": _seconds_at(run, row["step"]), **row, "run": run.name}
        for run in runs
        for row in getattr(run, kind)
    ]


def _changes(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Has a measure two values in any of the runs? A constant, such as an exact floor, is no curve."""
    found = {(row["run"], row[name]) for row in rows if row.get(name) is not None}
    return len(found) > len({run for run, _ in found})


def _seconds_at(run: RunRecord, step: int) -> float | None:
    """When a step was done: that of the first row of metrics at or after it; None when there is none."""
    rows = [row for row in run.metrics if isinstance(row.get("elapsed_seconds"), int | float)]
    place = bisect_left([row["step"] for row in rows], step)
    return float(rows[place]["elapsed_seconds"]) if place < len(rows) else None


def _describe(what: str, rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """Alternative text: where each line begins and ends."""
    words = []
    for name in dict.fromkeys(str(row["run"]) for row in rows):
        values = [row[column] for row in rows if row["run"] == name and row.get(column) is not None]
        if values:
            words.append(f"{name} from {show_number(values[0])} to {show_number(values[-1])}")
    return f"{what}: {'; '.join(words)}."
