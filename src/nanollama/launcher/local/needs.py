"""What a grid needs, run on this machine before the grid: each run alone, with all that the machine has."""

from __future__ import annotations

from collections.abc import Mapping

from nanollama.launcher.local.drive import own, start
from nanollama.launcher.plan import Plan
from nanollama.launcher.states import ACTIVE, State, check_folder, inspect_needed


def check_needs(plan: Plan, states: Mapping[str, State]) -> str | None:
    """The name of a run that a grid needs and somebody else is at work on; None: it can be run from here.

    Args:
        plan: of the grid.
        states: of its runs and of those that it needs.

    Raises:
        UserError: the folder of one holds the work of another run, or work that is stale.
    """
    for run in plan.needed:
        check_folder(run, states[run.name])
    return next((run.name for run in plan.needed if states[run.name].kind in ACTIVE), None)


def run_needs(plan: Plan, lock: int) -> bool:
    """Run what a grid needs and is not finished, one run after the other.

    Args:
        plan: of the grid.
        lock: of its folder.

    Returns:
        may the grid go on? Not if one of them has not finished, or if somebody has asked to stop.
    """
    for need in plan.needs:
        (run,) = need.runs
        if inspect_needed(run).kind == "finished":
            continue
        with own(need) as its_lock:  # another grid may need it, too
            if inspect_needed(run).kind != "finished" and not start(need, need.runs, [lock, its_lock], 0):
                return False
        if inspect_needed(run).kind != "finished":
            return False
    return True
