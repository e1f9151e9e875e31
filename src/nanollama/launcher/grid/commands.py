"""The verbs of ``nanollama grid``: what has become of a grid, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from nanollama.errors import EXIT_OK, UserError
from nanollama.launcher.attempts import OUTPUT
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.local.run import RESULTS, inspect_all, of_grid, run_missing
from nanollama.launcher.plan import read_grid
from nanollama.launcher.screen import state_lines, summarise
from nanollama.launcher.states import BROKEN, State, check_folder
from nanollama.monitor.successor import ORDER, is_ordered_anew
from nanollama.wording import count

MAX_LINES = 50
"""Of runs in one state; a grid may have thousands that wait."""

TO_KEEP = f"to keep what is there, remove the files {ORDER} from their folders."


def status(argv: Sequence[str]) -> int:
    """Print how many runs are in which state, and each that is not finished, also of what they need.

    Raises:
        UserError: a folder holds the result of another run.
    """
    plan = read_grid(argv)
    states = inspect_all(plan)
    for run in plan.runs:
        if states[run.name].result and states[run.name].kind != "stale":
            check_folder(run, states[run.name])
    print(f"{plan.folder}: {summarise(of_grid(plan, states))}")
    for line in state_lines(states, MAX_LINES):
        print(line)
    return EXIT_OK


def retry(argv: Sequence[str]) -> int:
    """Let what has failed go on, and nothing else; with ``overwrite=true`` that and what is stale, anew."""
    plan = read_grid(argv)
    kinds = BROKEN if plan.overwrite else ("failed",)
    left: list[str] = []

    def choose(run: GridRun, state: State) -> bool:
        if state.kind in kinds and not plan.overwrite and is_ordered_anew(run.folder):
            left.append(run.name)
        return state.kind in kinds and run.name not in left

    code = run_missing(plan, choose)
    if left:
        print(
            f"Left out, as what is there would be replaced: {count(len(left), 'run')} that failed to start "
            f"anew, such as {left[0]}: `nanollama grid retry CONFIG overwrite=true` starts them anew; "
            f"{TO_KEEP}"
        )
    return code


def logs(argv: Sequence[str], run: str) -> int:
    """Print what the processes of a run printed."""
    plan = read_grid(argv)
    path = plan.find(run).folder / OUTPUT
    try:
        print(path.read_text(encoding="utf-8", errors="replace"), end="")
    except FileNotFoundError:
        raise UserError(f"The run '{run}' has printed nothing yet: {path} is not there.") from None
    return EXIT_OK


def results(argv: Sequence[str], out: str | None = None) -> int:
    """Print mean and interval over seeds of each setting, write the rows of all runs to a table, and judge.

    Returns:
        0, or 1 when something expected was missed or could not be told, or a run has failed.
    """
    from nanollama.launcher.grid.outcome import judge_grid, show_outcome
    from nanollama.launcher.grid.results import collect, summary_lines, write_table
    from nanollama.launcher.grid.sections import BRACKETS

    plan = read_grid(argv)
    rows = collect(plan)
    to_begin = [run.name for run in plan.runs if is_ordered_anew(run.folder)]
    to_begin = [name for name in to_begin if name not in {row["run"] for row in rows}]
    if to_begin:
        print(
            f"Left out, ordered to start anew: {count(len(to_begin), 'run')}, such as {to_begin[0]}: "
            f"`nanollama grid run` starts them; {TO_KEEP}"
        )
    if not rows:
        raise UserError(f"No run of {plan.folder} has a result yet: `nanollama grid run` runs them.")
    path = write_table(rows, plan.folder / RESULTS if out is None else out)
    grid = judge_grid(plan, rows)
    print(f"means over seeds, in brackets {BRACKETS}")
    for line in summary_lines(grid):
        print(line)
    print(f"{count(len(rows), 'row')} of {count(len(plan.runs), 'run')} in {path}")
    return show_outcome(grid)
