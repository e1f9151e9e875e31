"""What a grid has come to: its table, the verdict on what was expected of it, its page.

A module ``grid_sections`` of a study may add to that:

- ``grid_sections(grid) -> Sequence[Section]``: more sections of the page.
- ``results_table(grid) -> Table | None``: in the place of the general table of settings.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from rich.console import Console

from nanollama.errors import EXIT_FAILED, EXIT_OK, MissingExtraError
from nanollama.launcher.grid import sections
from nanollama.launcher.grid.results import GridResults
from nanollama.launcher.grid.verdict import DIVERGED, judge
from nanollama.launcher.grid.verdict_table import (
    changed_claims,
    changed_lines,
    missing_lines,
    verdict_table,
    write_verdicts,
)
from nanollama.launcher.plan import Plan
from nanollama.launcher.states import inspect, inspect_needed
from nanollama.monitor.files import write_atomically, write_csv
from nanollama.report.command import save_parts, write_page
from nanollama.report.tables import Table
from nanollama.report.terminal import print_dialog
from nanollama.wording import count

PAGE, FIGURES, TABLE = "report.html", "figures", "table"
SECTIONS = "grid_sections"
"""Module of a study that adds to the page of a grid."""
MAX_SHOWN = 3
"""Settings of which dialogs are printed, each of its first kinds once."""
N_KINDS = 2
MAX_FAILED = 20
"""Runs that have failed of which it is said why."""


def judge_grid(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> GridResults:
    """What rows of `nanollama.launcher.grid.results.collect` say of a grid.

    Raises:
        UserError: a claim is about a measure that no run has.
    """
    return GridResults(plan, rows, judge(plan.expect, plan.runs, rows, plan.seed_key or ""))


def show_outcome(grid: GridResults) -> int:
    """Print table, dialogs and verdict, write them and the page into the folder of the grid.

    Returns:
        0, or 1 when something expected was missed or could not be told, or a run has failed.
    """
    show_results(grid)
    plan = grid.plan
    write_verdicts(plan.folder, grid.verdicts, plan.told, plan.seeds, plan.keys)
    if grid.verdicts:
        Console(soft_wrap=True).print(verdict_table(grid.verdicts, plan.told).to_rich())
    failed = failed_runs(grid)
    for line in [*missing_lines(grid.verdicts), *changed_lines(changed_claims(plan.expect))]:
        print(line)
    if failed:
        more = "" if len(failed) <= MAX_FAILED else f", of which the first {MAX_FAILED} are"
        print(f"Ended without finishing: {count(len(failed), 'run')} of {len(plan.runs)}{more}")
    for line in failed[:MAX_FAILED]:
        print(f"  {line}")
    try:
        write_grid_page(grid)
    except MissingExtraError as error:
        print(f"There is no page: {error}")
    return EXIT_FAILED if failed or any(verdict.failed for verdict in grid.verdicts) else EXIT_OK


def failed_runs(grid: GridResults) -> list[str]:
    """The runs that have ended without finishing, each with why; what else is missing is still to come."""
    diverged = {row["run"] for row in grid.rows if row["status"] == DIVERGED}
    finished = {row["run"] for row in grid.rows if row["status"] == "finished"}
    states = {run.name: inspect_needed(run, grid.queue) for run in grid.plan.needed}
    others = (run for run in grid.plan.runs if run.name not in finished | diverged)
    states |= {run.name: inspect(run, grid.queue) for run in others}
    broken = {name: state.reason for name, state in states.items() if state.kind == "failed"}
    ended = {name: DIVERGED for name in sorted(diverged)} | broken
    return [f"{name}: {why}" for name, why in ended.items()]


def results_table(grid: GridResults) -> Table:
    """The table of its settings: the study's own, or that of `sections`."""
    own = getattr(_of_study(grid), "results_table", None)
    found: Table | None = None if own is None else own(grid)
    return found or sections.measures_table(grid)


def show_results(grid: GridResults) -> None:
    """Write the table of settings into the folder of the grid; print it and some dialogs, if they are few."""
    results, path = results_table(grid), grid.plan.folder / TABLE
    write_atomically(path.with_suffix(".md"), results.to_markdown())
    write_csv(path.with_suffix(".csv"), results.columns, results.rows)
    console = Console(soft_wrap=True)
    if len(grid.settings) <= sections.MAX_LINES:
        console.print(results.fitting(console.width).to_rich())
    if len(grid.settings) <= MAX_SHOWN:
        for of_run in sections.dialog_blocks(grid):
            kinds = {dialog.title.partition(",")[0]: dialog for dialog in reversed(of_run.dialogs)}
            for dialog in [*reversed(kinds.values())][:N_KINDS]:
                print_dialog(console, of_run.name, dialog)


def write_grid_page(grid: GridResults) -> None:
    """Write ``report.html`` into the folder of a grid, and each of its parts into ``figures/``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plan = grid.plan
    n_finished, n_settings = sum(len(setting.runs) for setting in grid.settings), len(grid.settings)
    lead = f"{n_finished} of {count(len(plan.runs), 'run')} have finished, of {count(n_settings, 'setting')}."
    own = getattr(_of_study(grid), SECTIONS, None)
    parts = [
        *sections.result_sections(grid, results_table(grid)),
        *(own(grid) if own is not None and grid.settings else ()),
        *sections.cost_sections(grid),
    ]
    write_page(plan.folder / PAGE, plan.name, lead, parts)
    save_parts(plan.folder / FIGURES, parts)
    print(f"wrote {plan.folder / PAGE} and {plan.folder / FIGURES}")


def _of_study(grid: GridResults) -> ModuleType | None:
    """What the study adds, if it does."""
    name = f"{grid.plan.module.rpartition('.')[0]}.{SECTIONS}"
    return None if importlib.util.find_spec(name) is None else importlib.import_module(name)
