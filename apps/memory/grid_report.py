"""The page of a grid of the memory study: verdict, recall by setting, parameters needed, capacity, training.

Written when a grid has ended, and again by ``nanollama grid results CONFIG``, from the rows in its run
folders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from apps.memory.grid_figures import plot_capacity, plot_params_needed, plot_recall, plot_training
from apps.memory.grid_tables import (
    ENOUGH,
    VARIED,
    Measures,
    Setting,
    axis_of,
    by_setting,
    crossing_step,
    name_settings,
    params_needed,
    params_per_fact,
    read_published,
    setting_of,
)
from apps.memory.samples import SET_NAMES
from apps.memory.settings import MemoryConfig
from nanollama.launcher.plan import Plan
from nanollama.launcher.verdict import Verdict, verdict_table
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.report.aggregate import HIGH, LOW, over_seeds
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_bars
from nanollama.report.page import Block, Picture, Section, Words
from nanollama.report.tables import ABSENT, Table, show_interval, show_number
from nanollama.statistics import Interval

PAGE, FIGURES = "report.html", "figures"
NUMERIC_AXES = ("people", "alpha", "width")


def write(plan: Plan, rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> None:
    """Draw everything into the folder of the grid: ``report.html``, and each part in ``figures/``."""
    measured = by_setting(plan.by_name, rows)
    if not measured:
        return
    axis = axis_of(list(measured))
    finished = {row["run"] for row in rows if row["status"] == "finished"}
    sections = [
        Section("Verdict", (verdict_table(verdicts),) if verdicts else ()),
        Section("Recall", recall_blocks(measured, axis)),
        Section("Parameters needed", needed_blocks(measured)),
        Section("Capacity", capacity_blocks(measured, axis)),
        Section("Through training", training_blocks(plan, finished)),
    ]
    lead = f"{len(finished)} of {len(plan.runs)} runs have finished; each is examined after its last step."
    write_page(plan.folder / PAGE, plan.name, lead, sections)
    save_parts(plan.folder / FIGURES, sections)
    print(f"wrote {plan.folder / PAGE} and {plan.folder / FIGURES}")


def recall_blocks(measured: Mapping[Setting, Measures], axis: str | None) -> tuple[Block, ...]:
    """A table of all settings, and a figure for each set of questions."""
    sets = [name for name in SET_NAMES if any(f"recall_{name}" in found for found in measured.values())]
    blocks: list[Block] = [recall_table(measured, sets)]
    if axis not in NUMERIC_AXES:
        return (*blocks, recall_bars(measured, sets))
    for name in sets:
        rows = series_rows(measured, axis, f"recall_{name}")
        caption = f"Recall, {SET_NAMES[name]}: means over seeds, bands are 95 % intervals."
        figure = plot_recall(rows, axis, f"recall, {SET_NAMES[name]}")
        blocks.append(Picture(f"recall_{name}", figure, caption, _describe(rows, axis)))
    return tuple(blocks)


def recall_bars(measured: Mapping[Setting, Measures], sets: Sequence[str]) -> Picture:
    """Where there is no axis: a group of bars for each set of questions, a bar a setting."""
    rows = [
        {**row, "set": SET_NAMES[name]}
        for name in sets
        for row in series_rows(measured, None, f"recall_{name}")
    ]
    figure = plot_bars(rows, "set", "mean", series="series", low="low", high="high", y_label="recall")
    caption = "Recall by set of questions: means over seeds, with 95 % intervals."
    described = "; ".join(f"{row['series']}, {row['set']}: {row['mean']:.3f}" for row in rows)
    return Picture("recall", figure, caption, described)


def recall_table(measured: Mapping[Setting, Measures], sets: Sequence[str]) -> Table:
    """One row a setting."""
    varied = [axis for axis in VARIED if len({setting.at(axis) for setting in measured}) > 1]
    measures = {f"recall_{name}": SET_NAMES[name] for name in sets} | {
        f"tool_use_{sets[0]}": f"asked a tool ({SET_NAMES[sets[0]]})",
        f"recall_{sets[0]}_asked": "recall, tool asked",
        f"recall_{sets[0]}_by_heart": "recall, by heart",
        "bits_per_parameter": "bits a parameter",
    }
    shown = [key for key in measures if any(key in found for found in measured.values())]
    lines = [
        (
            setting.arm,
            *(str(setting.at(axis)) for axis in varied),
            *([f"{setting.bits:.3f}"] if "alpha" in varied else []),
            show_number(setting.parameters),
            show_number(float(f"{setting.exposures:.3g}")),
            str(max((value.n for value in found.values()), default=0)),
            *(_show(found.get(key)) for key in shown),
        )
        for setting, found in measured.items()
    ]
    columns = ("arm", *varied, *(["bits a person"] if "alpha" in varied else []))
    columns = (*columns, "parameters", "exposures", "seeds", *(measures[key] for key in shown))
    caption = "Recall after the last step, means over seeds, in brackets 95 % intervals."
    return Table(caption, columns, tuple(lines))


def needed_blocks(measured: Mapping[Setting, Measures]) -> tuple[Block, ...]:
    """The smallest model that learned, by people or alpha, beside the published; needs several widths."""
    axis = axis_of(list(measured))
    if axis not in ("people", "alpha") or len({setting.width for setting in measured}) < 2:
        return ()
    needed = params_needed(measured, axis)
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
    lines = tuple((row["arm"], str(row[axis]), show_number(row["parameters"])) for row in needed)
    caption = f"Smallest model with a mean recall of {ENOUGH:g}; a dash: none of those tried."
    figure = plot_params_needed(needed, published, axis)
    described = "; ".join(f"{arm} at {place}: {size}" for arm, place, size in lines)
    blocks: list[Block] = [
        Table(caption, ("arm", axis, "parameters"), lines),
        Picture("parameters_needed", figure, f"{caption} Lines: arXiv 2508.20755.", described),
    ]
    slope = params_per_fact(needed) if axis == "people" else None
    if slope is not None:
        blocks.append(
            Words(f"In-weight, a fact takes {slope:.2f} more parameters (least squares; published: 8.1).")
        )
    return tuple(blocks)


def capacity_blocks(measured: Mapping[Setting, Measures], axis: str | None) -> tuple[Block, ...]:
    """Bits per parameter of what was learned by heart."""
    if axis not in NUMERIC_AXES:
        return ()
    rows = series_rows(measured, axis, "bits_per_parameter")
    if not rows:
        return ()
    caption = "What the weights hold of the bits there are to know; dotted: seen after a thousand exposures."
    return (Picture("capacity", plot_capacity(rows, axis), caption, _describe(rows, axis)),)


def training_blocks(plan: Plan, finished: Collection[str]) -> tuple[Block, ...]:
    """Recall of what was never shown in finished runs, step by step, and when it crosses one half."""
    curves: dict[Setting, list[list[dict[str, Any]]]] = {}
    for run in plan.runs:
        config = run.config
        if run.name not in finished or not isinstance(config, MemoryConfig):
            continue
        if config.training.eval_every is None:
            continue
        name = next((name for name in ("new_names", "sums_unseen") if name in config.recall.sets), None)
        evaluations = RowFile(run.folder / EVALS).read()
        if name is not None and evaluations:
            ends = [f"recall{end}" for end in ("", LOW, HIGH)]
            curve = [
                {
                    "step": row["step"],
                    **{end: row.get(end.replace("recall", f"recall_{name}")) for end in ends},
                }
                for row in evaluations
            ]
            curves.setdefault(setting_of(config, 0), []).append(curve)
    if not curves:
        return ()
    rows, crossings = [], []
    for setting, series in name_settings(list(curves)).items():
        by_step: dict[int, list[dict[str, Any]]] = {}
        for row in chain.from_iterable(curves[setting]):
            by_step.setdefault(row["step"], []).append(row)
        for step, of_seeds in sorted(by_step.items()):
            mean, low, high, _ = over_seeds(of_seeds, "recall", is_share=True)
            rows.append({"series": series, "step": step, "mean": mean, "low": low, "high": high})
        steps = [crossing_step(curve, "recall") for curve in curves[setting]]
        crossings.append((series, ", ".join("never" if step is None else f"{step:,}" for step in steps)))
    caption = "Recall of new names, or of unseen operands, through training; bands as above."
    table = Table(
        "First evaluation from which on at least half is right, by seed.", ("runs", "steps"), tuple(crossings)
    )
    alt = "; ".join(f"{series} crosses one half: {steps}" for series, steps in crossings)
    return (Picture("through_training", plot_training(rows), caption, alt), table)


def series_rows(measured: Mapping[Setting, Measures], axis: str | None, measure: str) -> list[dict[str, Any]]:
    """Rows for a figure: the axis, if any, the name of the series, the mean of a measure and its interval."""
    names = name_settings(list(measured), axis)
    rows = []
    for setting, found in measured.items():
        if measure not in found:
            continue
        series = names[setting]
        mean, low, high, _ = found[measure]
        place = {} if axis is None else {axis: setting.at(axis)}
        rows.append({"series": series, **place, "mean": mean, "low": low, "high": high})
    return rows


def _show(found: Interval | None) -> str:
    return ABSENT if found is None else show_interval(*found[:3])


def _describe(rows: Sequence[Mapping[str, Any]], axis: str) -> str:
    return "; ".join(f"{row['series']}, {axis} {row[axis]}: {row['mean']:.3f}" for row in rows)
