"""What a grid has come to: the verdict on what was expected of it, and the page its study makes of it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from rich.console import Console

from nanollama.errors import EXIT_FAILED, EXIT_OK
from nanollama.launcher.grid.results import Row
from nanollama.launcher.grid.verdict import judge, missing_lines, verdict_table, write_verdicts
from nanollama.launcher.plan import Plan

REPORT = "grid_report"
"""Module of a study with ``write(plan, rows, verdicts)``, which draws the figures of a grid."""


def show_outcome(plan: Plan, rows: Sequence[Row]) -> int:
    """Print the verdict, write it and the study's own page into the folder of the grid.

    Args:
        plan: a grid.
        rows: of `nanollama.launcher.grid.results.collect`; not empty.

    Returns:
        0, or 1 when something expected was missed or could not be told.

    Raises:
        UserError: a claim is about a measure that no run has.
    """
    verdicts = judge(plan.expect, plan.runs, rows, plan.seed_key or "")
    name = f"{plan.module.rpartition('.')[0]}.{REPORT}"
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name).write(plan, rows, verdicts)
    if not verdicts:
        return EXIT_OK
    write_verdicts(plan.folder, verdicts)
    Console(soft_wrap=True).print(verdict_table(verdicts).to_rich())
    for line in missing_lines(verdicts):
        print(line)
    return EXIT_FAILED if any(verdict.failed for verdict in verdicts) else EXIT_OK
