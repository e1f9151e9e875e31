"""The page of a grid of the memory study: verdict, recall by setting, parameters needed, capacity, training.

Written when a grid has ended, and again by ``nanollama grid results CONFIG``, from the rows in its run
folders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from apps.memory.grid_figures import plot_capacity, plot_params_needed, plot_recall, plot_training
from apps.memory.grid_tables import (
    ENOUGH,
    Measured,
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
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.verdict import Verdict, verdict_table
from nanollama.launcher.plan import Plan
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.report.aggregate import HIGH, LOW, over_seeds
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_bars
from nanollama.report.page import Block, Picture, Section, Words
from nanollama.report.tables import Table, show_mean, show_number

PAGE, FIGURES = "report.html", "figures"


def write(plan: Plan, rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> None:
    """Draw everything into the folder of the grid: ``report.html``, and each part in ``figures/``."""
    measured = measure_settings(plan, rows)
    if not measured:
        return
    axis = axis_of(measured)
    series = name_series(plan, axis)
    finished = {row["run"] for row in rows if row["status"] == "finished"}
    sections = [
        Section("Verdict", (verdict_table(verdicts),) if verdicts else ()),
        Section("Recall", recall_blocks(measured, axis, series)),
        Section("Parameters needed", needed_blocks(measured, axis, name_series(plan, axis, "width"))),
        Section("Capacity", capacity_blocks(measured, axis, series)),
        Section("Through training", training_blocks(plan, finished)),
    ]
    lead = f"{len(finished)} of {len(plan.runs)} runs have finished; each is examined after its last step."
    write_page(plan.folder / PAGE, plan.name, lead, sections)
    save_parts(plan.folder / FIGURES, sections)
    print(f"wrote {plan.folder / PAGE} and {plan.folder / FIGURES}")


def recall_blocks(
    measured: Sequence[Measured], axis: str | None, series: Mapping[str, str]
) -> tuple[Block, ...]:
    """A table of all settings, and a figure for each set of questions."""
    sets = [name for name in SET_NAMES if any(f"recall_{name}" in found.measures for found in measured)]
    blocks: list[Block] = [recall_table(measured, sets)]
    if axis is None:
        return (*blocks, recall_bars(measured, sets, series))
    for name in sets:
        rows = series_rows(measured, axis, f"recall_{name}", series)
        caption = f"Recall, {SET_NAMES[name]}: means over seeds, bands are 95 % intervals."
        figure = plot_recall(rows, axis, f"recall, {SET_NAMES[name]}")
        blocks.append(Picture(f"recall_{name}", figure, caption, _describe(rows, axis)))
    return tuple(blocks)


def recall_bars(measured: Sequence[Measured], sets: Sequence[str], series: Mapping[str, str]) -> Picture:
    """Where there is no axis: a group of bars for each set of questions, a bar a setting."""
    rows = [
        {**row, "set": SET_NAMES[name]}
        for name in sets
        for row in series_rows(measured, None, f"recall_{name}", series)
    ]
    figure = plot_bars(rows, "set", "mean", series="series", low="low", high="high", y_label="recall")
    caption = "Recall by set of questions: means over seeds, with 95 % intervals."
    described = "; ".join(f"{row['series']}, {row['set']}: {row['mean']:.3f}" for row in rows)
    return Picture("recall", figure, caption, described)


def recall_table(measured: Sequence[Measured], sets: Sequence[str]) -> Table:
    """One row a setting."""
    bits = ["bits a person"] if len({found.alpha for found in measured}) > 1 else []
    measures = {f"recall_{name}": SET_NAMES[name] for name in sets} | {
        f"tool_use_{sets[0]}": f"asked a tool ({SET_NAMES[sets[0]]})",
        f"recall_{sets[0]}_asked": "recall, tool asked",
        f"recall_{sets[0]}_by_heart": "recall, by heart",
        "bits_per_parameter": "bits a parameter",
    }
    shown = [key for key in measures if any(key in found.measures for found in measured)]
    lines = [
        (
            found.label,
            found.arm,
            *(f"{found.bits:.3f}" for _ in bits),
            show_number(found.parameters),
            show_number(float(f"{found.exposures:.3g}")),
            str(found.n_seeds),
            *(show_mean(found.measures.get(key)) for key in shown),
        )
        for found in measured
    ]
    columns = ("setting", "arm", *bits, "parameters", "exposures", "seeds", *(measures[key] for key in shown))
    caption = "Recall after the last step, means over seeds, in brackets 95 % intervals."
    return Table(caption, columns, tuple(lines))


def needed_blocks(
    measured: Sequence[Measured], axis: str | None, series: Mapping[str, str]
) -> tuple[Block, ...]:
    """The smallest model that learned, by people or alpha, beside the published; needs several widths."""
    if axis not in ("people", "alpha") or len({found.width for found in measured}) < 2:
        return ()
    needed = params_needed(measured, axis, series)
    if axis == "people":
        published = [
            {
                "people": row["n_people"],
                "in-weight": row["in_weight_params"],
                "in-tool": row["in_tool_params"],
            }
            for row in read_published("params_needed")
        ]
    else:
        published = [
            {"alpha": row["alpha"], "in-weight": row["params_needed"]}
            for row in read_published("compressibility")
        ]
    lines = tuple((row["series"], str(row[axis]), show_number(row["parameters"])) for row in needed)
    caption = f"Smallest model with a mean recall of {ENOUGH:g}; a dash: none of those tried."
    figure = plot_params_needed(needed, published, axis)
    described = "; ".join(f"{name} at {place}: {size}" for name, place, size in lines)
    blocks: list[Block] = [
        Table(caption, ("runs", axis, "parameters"), lines),
        Picture("parameters_needed", figure, f"{caption} Lines: arXiv 2508.20755.", described),
    ]
    slopes = params_per_fact(needed) if axis == "people" else {}
    for name, slope in slopes.items():
        text = f"{name}: a fact takes {slope:.2f} more parameters (least squares; published: 8.1)."
        blocks.append(Words(text))
    return tuple(blocks)


def capacity_blocks(
    measured: Sequence[Measured], axis: str | None, series: Mapping[str, str]
) -> tuple[Block, ...]:
    """Bits per parameter of what was learned by heart."""
    if axis is None:
        return ()
    rows = series_rows(measured, axis, "bits_per_parameter", series)
    if not rows:
        return ()
    caption = "What the weights hold of the bits there are to know; dotted: seen after a thousand exposures."
    return (Picture("capacity", plot_capacity(rows, axis), caption, _describe(rows, axis)),)


def training_blocks(plan: Plan, finished: Collection[str]) -> tuple[Block, ...]:
    """Recall of what was never shown in finished runs, step by step, and when it crosses one half."""

    def read_curve(run: GridRun) -> list[dict[str, Any]] | None:
        config = run.config
        if run.name not in finished or not isinstance(config, MemoryConfig):
            return None
        name = next((name for name in ("new_names", "sums_unseen") if name in config.recall.sets), None)
        if name is None or config.training.eval_every is None:
            return None
        rows = RowFile(run.folder / EVALS).read()
        names = {f"recall_{name}{end}": f"recall{end}" for end in ("", LOW, HIGH)}
        return [
            {"step": row["step"], **{short: row.get(n) for n, short in names.items()}} for row in rows
        ] or None

    curves = [curve for setting in plan.settings if (curve := setting.read(read_curve)).by_seed]
    if not curves:
        return ()
    names = name_series(plan)
    rows, crossings = [], []
    for setting in curves:
        series = names[setting.label]
        for step in sorted({row["step"] for curve in setting.runs for row in curve}):
            found = over_seeds(setting.read(partial(_at_step, step=step)), "recall")
            if found is not None:
                mean, low, high, _ = found
                rows.append({"series": series, "step": step, "mean": mean, "low": low, "high": high})
        steps = [crossing_step(curve, "recall") for curve in setting.runs]
        crossings.append((series, ", ".join("never" if step is None else f"{step:,}" for step in steps)))
    caption = "Recall of new names, or of sums with unseen operands, through training; bands as above."
    table = Table(
        "First evaluation from which on at least half is right, by seed.", ("runs", "steps"), tuple(crossings)
    )
    alt = "; ".join(f"{series} crosses one half: {steps}" for series, steps in crossings)
    return (Picture("through_training", plot_training(rows), caption, alt), table)


def series_rows(
    measured: Sequence[Measured], axis: str | None, measure: str, series: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows for a figure: the axis, if any, the name of the series, the mean of a measure and its interval."""
    rows = []
    for found in measured:
        if measure not in found.measures:
            continue
        mean, low, high, _ = found.measures[measure]
        place = {} if axis is None else {axis: found.at(axis)}
        rows.append({"series": series[found.label], **place, "mean": mean, "low": low, "high": high})
    return rows


def _at_step(evaluations: Sequence[Mapping[str, Any]], step: int) -> Mapping[str, Any] | None:
    return next((row for row in evaluations if row["step"] == step), None)


def _describe(rows: Sequence[Mapping[str, Any]], axis: str) -> str:
    return "; ".join(f"{row['series']}, {axis} {row[axis]}: {row['mean']:.3f}" for row in rows)
