"""The book of claims: what every grid of the checkout has to bring out, and what it has brought out here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from nanollama import studies
from nanollama.config.source import read_source
from nanollama.errors import UserError
from nanollama.launcher.grid.expand import SECTION
from nanollama.launcher.grid.outcome import judge_grid
from nanollama.launcher.grid.results import Row, collect
from nanollama.launcher.grid.verdict import verdict_table
from nanollama.launcher.plan import Plan, read_grid
from nanollama.wording import count

N_COMMIT_DIGITS = 7
LEAD = (
    "Each claim was written into its config before anything ran. Where a grid has been run in this checkout, "
    "its verdict stands here, whatever it is; where it has not, what it takes. `nanollama grid run CONFIG` "
    "runs one."
)


def write_book(names: Sequence[str] = ()) -> str:
    """The book as Markdown: a chapter a study, a section a config that claims something.

    Args:
        names: of the studies; none: all of the checkout.

    Raises:
        UserError: there is no such study, or a config of one is wrong.
    """
    lines = ["# The book of claims", "", LEAD]
    for name in names or studies.list_studies():
        paths = sorted((studies.find_study(name).folder / "config").glob("*.yaml"))
        lines += ["", f"## {name}", *(line for path in paths for line in _section(path))]
    return "\n".join(lines) + "\n"


def _section(path: Path) -> Iterator[str]:
    """One config; nothing where it claims nothing."""
    source = read_source([str(path)]).plain()
    if not source.get(SECTION) or not source.get("expect"):
        return
    plan = read_grid([str(path)])
    try:
        rows, problem = collect(plan), ""
        results = judge_grid(plan, rows)
    except UserError as error:  # such as runs of the config as it once was
        rows, problem = [], f" What lies in {plan.folder} is of no use: {error}"
        results = judge_grid(plan, rows)
    yield from ("", f"### {path.stem}", "", (_work(plan, rows) if rows else _price(plan)) + problem, "")
    yield verdict_table(results.verdicts).to_markdown().rstrip()


def _work(plan: Plan, rows: Sequence[Row]) -> str:
    """How much of a grid has been run here, how long it took, and with which code."""
    seconds = sum(float(row["seconds"] or 0) for row in rows)
    commits = sorted({str(row["commit"])[:N_COMMIT_DIGITS] for row in rows if row["commit"]})
    n_finished = sum(row["status"] == "finished" for row in rows)
    return (
        f"{n_finished} of {count(len(plan.runs), 'run')} finished, {timedelta(seconds=round(seconds))} of "
        f"work; commit {', '.join(commits) or 'not known'}."
    )


def _price(plan: Plan) -> str:
    """What all runs of a grid would take."""
    trainings = [getattr(run.config, "training", None) for run in plan.runs]
    n_steps = sum(training.n_steps for training in trainings if training is not None)
    return f"Not yet run: {count(len(plan.runs), 'run')}, {n_steps:,} steps in all."
