"""The book of claims: what every grid of the checkout has to bring out, and what it has brought out here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from nanollama import studies
from nanollama.config.source import read_source
from nanollama.errors import UserError
from nanollama.launcher.grid.expand import SECTION
from nanollama.launcher.grid.outcome import judge_grid
from nanollama.launcher.grid.results import Row, collect
from nanollama.launcher.grid.verdict import Verdict, verdict_table
from nanollama.launcher.plan import Plan, read_grid
from nanollama.measures import ABSENT
from nanollama.monitor.run_folder import CONFIG
from nanollama.report.aggregate import flatten
from nanollama.report.runs import parse_config
from nanollama.report.tables import Table
from nanollama.statistics import exact_ends
from nanollama.wording import count

N_COMMIT_DIGITS = 7
LEAD = (
    "Each claim was written into its config before anything ran. Where a grid has been run in this checkout, "
    "its verdict stands here, whatever it is; where it has not, what it takes. `nanollama grid run CONFIG` "
    "runs one, and `nanollama grid run CONFIG 'grid.seeds=[100,101,102]'` tries it on fresh seeds, of which "
    "the book says for how many each claim holds."
)


def write_book(names: Sequence[str] = ()) -> str:
    """The book as Markdown: a chapter a study, a section a config that claims something.

    Args:
        names: of the studies; none: all of the checkout.

    Raises:
        UserError: there is no such study, or a config of one is wrong.
    """
    chapters: dict[str, list[Entry]] = {}
    for path in claiming(names):
        chapters.setdefault(path.parent.parent.name, []).append(_read(path))
    lines = [
        "# The book of claims",
        "",
        LEAD,
        "",
        _whole([e for chapter in chapters.values() for e in chapter]),
    ]
    for name, entries in chapters.items():
        lines += ["", f"## {name}", *(line for entry in entries for line in _section(entry))]
    return "\n".join(lines) + "\n"


def claiming(names: Sequence[str] = ()) -> list[Path]:
    """The configs of grids that claim something, of some studies or of all.

    Raises:
        UserError: there is no such study, or a config cannot be read.
    """
    paths = [
        path
        for name in names or studies.list_studies()
        for path in sorted((studies.find_study(name).folder / "config").glob("*.yaml"))
    ]
    return [path for path in paths if _claims(path)]


def _claims(path: Path) -> bool:
    source = read_source([str(path)]).plain()
    return bool(source.get(SECTION) and source.get("expect"))


@dataclass(frozen=True)
class Entry:
    """A config of the book.

    Args:
        path: of the config.
        plan: its grid.
        rows: of its runs that have a result here.
        verdicts: on its claims.
        problem: why rows that are here are of no use; empty where they are.
        fresh: seeds that the config does not name and that have been run here too, and the verdicts on them.
    """

    path: Path
    plan: Plan
    rows: Sequence[Row]
    verdicts: Sequence[Verdict]
    problem: str
    fresh: tuple[Sequence[Any], Sequence[Verdict]] = ((), ())

    @property
    def seconds(self) -> float:
        """Of work, all finished runs together."""
        return sum(float(row["seconds"] or 0) for row in self.rows)

    @property
    def n_finished(self) -> int:
        """Runs that have finished here."""
        return sum(row["status"] == "finished" for row in self.rows)


def _read(path: Path) -> Entry:
    plan = read_grid([str(path)])
    try:
        rows = collect(plan)
        return Entry(path, plan, rows, judge_grid(plan, rows).verdicts, "", _of_fresh_seeds(path, plan))
    except UserError as error:  # such as runs of the config as it once was
        problem = f" What lies in {plan.folder} is of no use: {error}"
        return Entry(path, plan, [], judge_grid(plan, []).verdicts, problem)


def _of_fresh_seeds(path: Path, plan: Plan) -> tuple[Sequence[Any], Sequence[Verdict]]:
    """Seeds of runs in the folder of a grid that its config does not name, and the verdicts on them alone."""
    key = plan.seed_key or ""
    own = {run.values.get(key) for run in plan.runs}
    found = {
        flatten(parse_config(config, config.read_text(encoding="utf-8", errors="replace"))).get(key)
        for config in plan.folder.glob(f"*/{CONFIG}")
    }
    fresh = sorted(seed for seed in found - own if isinstance(seed, int))
    if not fresh:
        return (), ()
    other = read_grid([str(path), f"grid.seeds=[{','.join(map(str, fresh))}]"])
    return fresh, judge_grid(other, collect(other)).verdicts


def _section(entry: Entry) -> Iterator[str]:
    """One config: its claims and verdicts, then on how many fresh seeds each holds, where there are some."""
    told = _work(entry) if entry.rows else _price(entry.plan)
    yield from ("", f"### {entry.path.stem}", "", told + entry.problem, "")
    yield verdict_table(entry.verdicts).to_markdown().rstrip()
    seeds, verdicts = entry.fresh
    if seeds:
        yield from ("", f"On {count(len(seeds), 'seed')} that the config does not name, {_named(seeds)}:", "")
        yield success_table(verdicts).to_markdown().rstrip()


def success_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a claim: for how many seeds it holds by itself, of those of which it can be told."""
    rows = tuple((v.expectation.claim, v.expectation.bound, v.shown, success_rate(v)) for v in verdicts)
    return Table("Seeds for which each claim holds.", ("claim", "expected", "found", "holds for"), rows)


def success_rate(verdict: Verdict) -> str:
    """``17 of 20 [0.621, 0.968]``: values as claimed, of those told, with the exact interval of the share."""
    n_told, n_held = len(verdict.each), sum(verdict.each)
    if n_told == 0:
        return ABSENT
    low, high = exact_ends(n_held / n_told, n_told)
    return f"{n_held} of {n_told} [{low:.3f}, {high:.3f}]"


def _named(seeds: Sequence[int]) -> str:
    is_range = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]} to {seeds[-1]}" if is_range else ", ".join(map(str, seeds))


def _whole(entries: Sequence[Entry]) -> str:
    """What all of it takes, as far as finished runs tell."""
    n_runs = sum(len(entry.plan.runs) for entry in entries)
    n_finished = sum(entry.n_finished for entry in entries)
    known = [entry for entry in entries if entry.n_finished]
    hours = sum(entry.seconds / entry.n_finished * len(entry.plan.runs) for entry in known) / 3600
    took = f", whose {count(len(known), 'grid')} take {hours:.1f} hours of one process" if known else ""
    return (
        f"{n_finished:,} of {count(n_runs, 'run')} have finished here{took}. `nanollama book --run` runs what"
        " is missing of all grids, one after the other; with each that has not been run stands what it takes."
    )


def _work(entry: Entry) -> str:
    """How much of a grid has been run here, how long it took, and with which code."""
    commits = sorted({str(row["commit"])[:N_COMMIT_DIGITS] for row in entry.rows if row["commit"]})
    return (
        f"{entry.n_finished} of {count(len(entry.plan.runs), 'run')} finished, "
        f"{timedelta(seconds=round(entry.seconds))} of work; commit {', '.join(commits) or 'not known'}."
    )


def _price(plan: Plan) -> str:
    """What all runs of a grid would take."""
    trainings = [getattr(run.config, "training", None) for run in plan.runs]
    n_steps = sum(training.n_steps for training in trainings if training is not None)
    return f"Not yet run: {count(len(plan.runs), 'run')}, {n_steps:,} steps in all."
