"""What the page of a grid of this study shows beside what every grid has.

Who asks and who knows by heart, the smallest model that learns beside the published ones, what weights hold,
and when what was never shown is answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from apps.memory.grid.figures import AXIS_LABELS, BITS_A_PARAMETER, mark_level, plot_params_needed
from apps.memory.grid.forgetting import forgetting_blocks, forgetting_table
from apps.memory.grid.tables import (
    ENOUGH,
    PUBLISHED_PEOPLE,
    Measured,
    Row,
    axis_of,
    crossing_step,
    measure_settings,
    name_series,
    params_needed,
    params_per_fact,
    read_published,
)
from apps.memory.samples import SET_NAMES
from apps.memory.settings import MemoryConfig
from nanollama.launcher.grid.results import Finished, GridResults
from nanollama.launcher.grid.sections import BANDS, BRACKETS, draw_means
from nanollama.measures import ABSENT, show_number
from nanollama.report.figures import plot_bars
from nanollama.report.page import Block, Picture, Section, Words
from nanollama.report.tables import Table, show_mean
from nanollama.statistics import Interval

MAX_COLUMNS = 3
"""Of a table that a terminal has room for."""
SETS = {
    "trained": "trained people",
    "unseen": "unseen people",
    "new_names": "new names",
    "sums_trained": "trained sums",
    "sums_unseen": "unseen operands",
    "sums_longer": "longer operands",
}


def grid_sections(grid: GridResults) -> Sequence[Section]:
    """The sections; see `nanollama.launcher.grid.outcome`."""
    measured = measure_settings(grid)
    axis = axis_of(measured)
    series = name_series(grid.plan, axis)
    bars = (recall_bars(measured, series),) if axis is None else ()
    return [
        Section("Asked or known by heart", (ways_table(measured), *bars)),
        Section("Parameters needed", needed_blocks(measured, axis, name_series(grid.plan, axis, "width"))),
        Section("Capacity", capacity_blocks(measured, axis, series)),
        Section("What was never shown", crossing_blocks(grid)),
        Section("What was forgotten", forgetting_blocks(grid)),
    ]


def results_table(grid: GridResults) -> Table | None:
    """A column a setting, if there are few enough: recall, requests, what was learned, size, cost.

    Of pretrained models a row a setting: what they have forgotten.
    """
    if (forgotten := forgetting_table(grid)) is not None:
        return forgotten
    if not 0 < len(grid.settings) <= MAX_COLUMNS:
        return None
    measured = measure_settings(grid)
    series = name_series(grid.plan)
    measures = {f"recall_{name}": f"recall: {words}" for name, words in SETS.items()}
    measures["valid_calls_unseen"] = "valid requests: unseen people"
    rows = [
        (words, [_few_digits(found.final(name)) for found in measured]) for name, words in measures.items()
    ]
    rows += [
        ("people learned from", [show_number(found.people or None) for found in measured]),
        ("parameters", [show_number(found.parameters) for found in measured]),
        ("bits stored per parameter", [_few_digits(found.final("bits_per_parameter")) for found in measured]),
        ("seconds, examinations included", [_few_digits(found.final("seconds")) for found in measured]),
    ]
    kept = tuple((words, *cells) for words, cells in rows if set(cells) != {ABSENT})
    caption = f"After the last step: means over seeds, in brackets {BRACKETS}, people as the unit."
    return Table(caption, ("", *(series[found.label] for found in measured)), kept)


def _few_digits(found: Interval | None) -> str:
    """Four digits, where there is no interval that tells how many count."""
    return show_number(found.mean) if found and math.isnan(found.low) else show_mean(found)


def ways_table(measured: Sequence[Measured]) -> Table:
    """One row a setting: how much there was to learn, and how it answers."""
    bits = ["bits a person"] if len({found.alpha for found in measured}) > 1 else []
    known = [name for name in SET_NAMES if any(found.final(f"recall_{name}") for found in measured)]
    columns = (
        {
            f"tool_use_{known[0]}": f"asked a tool ({SET_NAMES[known[0]]})",
            f"recall_{known[0]}_asked": "recall, tool asked",
            f"recall_{known[0]}_by_heart": "recall, by heart",
            "bits_per_parameter": "bits a parameter",
        }
        if known
        else {}
    )
    shown = [key for key in columns if any(found.final(key) for found in measured)]
    lines = [
        (
            found.label,
            found.arm,
            *(f"{found.bits:.3f}" for _ in bits),
            show_number(float(f"{found.exposures:.3g}")),
            *(show_mean(found.final(key)) for key in shown),
        )
        for found in measured
    ]
    caption = f"After the last step: means over seeds, in brackets {BRACKETS}."
    return Table(
        caption, ("setting", "arm", *bits, "exposures", *(columns[key] for key in shown)), tuple(lines)
    )


def recall_bars(measured: Sequence[Measured], series: Mapping[str, str]) -> Picture:
    """Where there is no axis: a group of bars for each set of questions, a bar a setting."""
    rows = [
        {"series": series[found.label], "set": words, **recall._asdict()}
        for name, words in SETS.items()
        for found in measured
        if (recall := found.final(f"recall_{name}"))
    ]
    figure = plot_bars(rows, "set", "mean", series="series", low="low", high="high", y_label="recall")
    caption = f"Recall by set of questions: means over seeds, with {BRACKETS}."
    described = "; ".join(f"{row['series']}, {row['set']}: {row['mean']:.3f}" for row in rows)
    return Picture("recall", figure, caption, described)


def needed_blocks(
    measured: Sequence[Measured], axis: str | None, series: Mapping[str, str]
) -> tuple[Block, ...]:
    """The smallest model that learned, by people or alpha, beside the published; needs several widths."""
    if axis not in ("people", "alpha") or len({found.width for found in measured}) < 2:
        return ()
    needed = params_needed(measured, axis, series)
    published, source = published_needs(measured, axis)
    lines = tuple((row["series"], str(row[axis]), show_number(row["parameters"])) for row in needed)
    caption = f"Smallest model with a mean recall of {ENOUGH:g}; a dash: none of those tried."
    figure = plot_params_needed(needed, published, axis, source)
    described = "; ".join(f"{name} at {place}: {size}" for name, place, size in lines)
    blocks: list[Block] = [
        Table(caption, ("runs", axis, "parameters"), lines),
        Picture(
            "parameters_needed",
            figure,
            f"{caption} Lines: arXiv 2508.20755." if published else caption,
            described,
        ),
    ]
    slopes = params_per_fact(needed) if axis == "people" else {}
    for name, slope in slopes.items():
        fit = f"least squares{_published_slope(published)}"
        blocks.append(Words(f"{name}: a fact takes {slope:.2f} more parameters ({fit})."))
    return tuple(blocks)


def published_needs(measured: Sequence[Measured], axis: str) -> tuple[list[Row], str]:
    """What was published of the same, with the axis and, by arm, the parameters; and what that is, in words.

    Nothing where something else was measured: dependent facts of several numbers of people, or, by alpha,
    facts of another number of people than the published.
    """
    if axis == "people" and all(found.alpha is None for found in measured):
        people = [
            {
                "people": row["n_people"],
                "in-weight": row["in_weight_params"],
                "in-tool": row["in_tool_params"],
            }
            for row in read_published("params_needed")
        ]
        return [*people], "published"
    if axis == "alpha" and all(found.people == PUBLISHED_PEOPLE for found in measured):
        alphas = [
            {"alpha": row["alpha"], "in-weight": row["params_needed"]}
            for row in read_published("compressibility")
        ]
        return [*alphas], f"published, {PUBLISHED_PEOPLE:,} people, one seed"
    return [], ""


def _published_slope(published: Sequence[Row]) -> str:
    """By the same fit, and as the paper has it."""
    rows = [
        {"series": "", "arm": "in-weight", "people": row["people"], "parameters": row["in-weight"]}
        for row in published
    ]
    slope = params_per_fact(rows).get("")
    return f"; of the published sizes {slope:.2f}; the paper says 8.1, by another fit" if slope else ""


def capacity_blocks(
    measured: Sequence[Measured], axis: str | None, series: Mapping[str, str]
) -> tuple[Block, ...]:
    """Bits per parameter of what was learned by heart."""
    name = "bits_per_parameter"
    points = [
        (series[found.label], found.at(axis), held)
        for found in measured
        if axis is not None and (held := found.final(name))
    ]
    if axis is None or not points:
        return ()
    caption = f"{BANDS} Dotted: seen after a thousand exposures."
    picture = draw_means("capacity", points, AXIS_LABELS[axis], name, caption)
    mark_level(picture.figure, BITS_A_PARAMETER, "2 bits a parameter")
    return (picture,)


def crossing_blocks(grid: GridResults) -> tuple[Block, ...]:
    """By seed, the first evaluation from which on half of what was never shown is answered rightly."""
    rows = []
    for setting in grid.settings:
        steps = [_crossing(done) for done in setting.runs]
        if any(step is not None for step in steps):
            rows.append((setting.label, ", ".join(step or "" for step in steps)))
    if not rows:
        return ()
    caption = "First evaluation from which on at least half of new names, or unseen sums, is right, by seed."
    return (Table(caption, ("setting", "steps"), tuple(rows)),)


def _crossing(done: Finished) -> str | None:
    """In words; None for a run that is asked nothing new while it learns."""
    config = cast(MemoryConfig, done.run.config)
    name = next((name for name in ("new_names", "sums_unseen") if name in config.recall.sets), None)
    if name is None or config.training.eval_every is None:
        return None
    step = crossing_step(done.evals, f"recall_{name}")
    return "never" if step is None else f"{step:,}"
