"""What a grid has come to: the verdict on what was expected of it, and its page."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from nanollama.errors import EXIT_FAILED, EXIT_OK, MissingExtraError
from nanollama.launcher.grid import sections
from nanollama.launcher.grid.results import GridResults
from nanollama.launcher.grid.verdict import judge, missing_lines, verdict_table, write_verdicts
from nanollama.launcher.plan import Plan
from nanollama.report.command import save_parts, write_page
from nanollama.report.page import Section
from nanollama.wording import count

PAGE, FIGURES = "report.html", "figures"
SECTIONS = "grid_sections"
"""Module of a study with ``grid_sections(grid) -> Sequence[Section]``, which adds to the page of a grid."""


def judge_grid(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> GridResults:
    """What rows of `nanollama.launcher.grid.results.collect` say of a grid.

    Raises:
        UserError: a claim is about a measure that no run has.
    """
    return GridResults(plan, rows, judge(plan.expect, plan.runs, rows, plan.seed_key or ""))


def show_outcome(grid: GridResults) -> int:
    """Print the verdict, write it and the page into the folder of the grid.

    Returns:
        0, or 1 when something expected was missed or could not be told.
    """
    if grid.verdicts:
        write_verdicts(grid.plan.folder, grid.verdicts)
        Console(soft_wrap=True).print(verdict_table(grid.verdicts).to_rich())
    for line in missing_lines(grid.verdicts):
        print(line)
    try:
        write_grid_page(grid)
    except MissingExtraError as error:
        print(f"There is no page: {error}")
    return EXIT_FAILED if any(verdict.failed for verdict in grid.verdicts) else EXIT_OK


def write_grid_page(grid: GridResults) -> None:
    """Write ``report.html`` into the folder of a grid, and each of its parts into ``figures/``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plan = grid.plan
    n_finished, n_settings = sum(len(setting.runs) for setting in grid.settings), len(grid.settings)
    lead = f"{n_finished} of {count(len(plan.runs), 'run')} have finished, of {count(n_settings, 'setting')}."
    parts = [*sections.result_sections(grid), *_of_study(grid), *sections.cost_sections(grid)]
    write_page(plan.folder / PAGE, plan.name, lead, parts)
    save_parts(plan.folder / FIGURES, parts)
    print(f"wrote {plan.folder / PAGE} and {plan.folder / FIGURES}")


def _of_study(grid: GridResults) -> Sequence[Section]:
    """What the study adds."""
    name = f"{grid.plan.module.rpartition('.')[0]}.{SECTIONS}"
    if not grid.settings or importlib.util.find_spec(name) is None:
        return ()
    found: Sequence[Section] = importlib.import_module(name).grid_sections(grid)
    return found
