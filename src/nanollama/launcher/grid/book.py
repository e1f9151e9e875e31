"""The book of claims: what every grid of the checkout has to bring out, and what it has brought out here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanollama import studies
from nanollama.config.source import read_source
from nanollama.errors import UserError
from nanollama.launcher.grid.chosen import value_at
from nanollama.launcher.grid.expand import SECTION
from nanollama.launcher.grid.made import short_commits
from nanollama.launcher.grid.outcome import judge_grid
from nanollama.launcher.grid.record import Record, read_records, seconds_of, show_work
from nanollama.launcher.grid.results import Row, collect
from nanollama.launcher.grid.success import Success, held_by_seed
from nanollama.launcher.grid.verdict import DIVERGED, Verdict
from nanollama.launcher.grid.verdict_table import changed_claims, changed_lines, verdict_table
from nanollama.launcher.plan import Plan, name_seeds, read_grid
from nanollama.monitor.run_folder import CONFIG
from nanollama.report.aggregate import flatten
from nanollama.report.runs import parse_config
from nanollama.report.tables import Table
from nanollama.wording import count

LEAD = (
    "A claim stands in its config before anything of its grid runs; of one that was changed once results "
    "were known, that is said beside its verdict, with when and why. Where a grid has been run in this "
    "checkout, its verdict stands here, whatever it is; where it has not, what it takes. *Recorded* is what "
    "those who keep a study have found, with the runs at hand or not. `nanollama grid run CONFIG` runs a "
    "grid, `nanollama grid run CONFIG 'grid.seeds=[100,101,102]'` tries it on fresh seeds, of which the "
    "book says for how many each claim holds, and `nanollama grid record CONFIG` records what came of it."
)


SEEDS = "grid.seeds"
"""How a key begins that leaves what a run takes as it is."""


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
    lost = {
        name: _lost(studies.find_study(name).folder, {entry.path.stem for entry in chapters.get(name, [])})
        for name in names or studies.list_studies()
    }
    lines = [
        "# The book of claims",
        "",
        LEAD,
        "",
        _whole([e for chapter in chapters.values() for e in chapter]),
    ]
    for name, lost_lines in lost.items():
        entries = chapters.get(name, [])
        if entries or lost_lines:
            lines += ["", f"## {name}", *(line for entry in entries for line in _section(entry)), *lost_lines]
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
class Fresh:
    """Seeds that a config does not name and that have been run here too.

    Args:
        seeds: the seeds.
        verdicts: on each claim, of the runs of all of them.
        held: of each claim, the seeds for which it holds.
    """

    seeds: Sequence[int]
    verdicts: Sequence[Verdict]
    held: Sequence[Success]


@dataclass(frozen=True)
class Entry:
    """A config of the book.

    Args:
        path: of the config.
        plan: its grid.
        rows: of its runs that have a result here.
        verdicts: on its claims.
        problem: why rows that are here are of no use; empty where they are.
        fresh: what seeds say that the config does not name, where some have been run here.
        records: what is recorded of it, each with the grid of the config with the record's keys; None where
            it takes them no more.
    """

    path: Path
    plan: Plan
    rows: Sequence[Row]
    verdicts: Sequence[Verdict]
    problem: str
    fresh: Fresh | None = None
    records: Sequence[tuple[Record, Plan | None]] = ()

    @property
    def finished(self) -> list[Row]:
        """The runs that have finished here."""
        return [row for row in self.rows if row["status"] == "finished"]

    @property
    def seconds_of_all(self) -> float | None:
        """What all runs take, by those that have finished here or were recorded; None: not known.

        What is recorded of other keys than those of seeds took what other runs take.
        """
        alike = (
            one
            for one, plan in self.records
            if plan is not None and one.trains_as(plan) and all(key.startswith(SEEDS) for key in one.keys)
        )
        measured = [
            (seconds_of(self.finished), len(self.finished)),
            *((one.seconds, one.n_runs) for one in alike),
        ]
        seconds, n_runs = next((pair for pair in measured if pair[1]), (0.0, 0))
        return seconds / n_runs * len(self.plan.runs) if n_runs else None


def _read(path: Path) -> Entry:
    plan = read_grid([str(path)])
    records = [
        (found, _with_keys(path, plan, found))
        for found in read_records(path.parent.parent)
        if found.config == path.stem
    ]
    rows: Sequence[Row] = ()
    fresh, problem = None, ""
    try:
        here = collect(plan)
        seconds_of(here)
        rows = here
    except UserError as error:  # such as runs of the config as it once was
        problem = f" What lies in {plan.folder} is of no use: {error}"
    try:
        fresh = None if problem else _of_fresh_seeds(path, plan)
    except UserError as error:  # such as a trial of other keys
        problem = f" Of seeds that the config does not name, what lies there is of no use: {error}"
    return Entry(path, plan, rows, judge_grid(plan, rows).verdicts, problem, fresh, records)


def _of_fresh_seeds(path: Path, plan: Plan) -> Fresh | None:
    """What runs in the folder of a grid say whose seeds its config does not name, judged alone."""
    key = plan.seed_key or ""
    own = {value_at(run, key) for run in plan.runs}
    found = {
        flatten(parse_config(config, config.read_text(encoding="utf-8", errors="replace"))).get(key)
        for config in plan.folder.glob(f"*/{CONFIG}")
    }
    fresh = sorted(seed for seed in found - own if isinstance(seed, int))
    if not fresh:
        return None
    other = read_grid([str(path), f"grid.seeds=[{','.join(map(str, fresh))}]"])
    rows = collect(other)
    return Fresh(fresh, judge_grid(other, rows).verdicts, held_by_seed(other, rows))


def _section(entry: Entry) -> Iterator[str]:
    """One config: its claims and verdicts, on how many fresh seeds each holds, what is recorded of it."""
    told = _work(entry) if entry.rows else _price(entry.plan)
    yield from ("", f"### {entry.path.stem}", "", told + entry.problem)
    if entry.rows or not entry.records:
        yield from ("", verdict_table(entry.verdicts).to_markdown().rstrip())
    changed = changed_claims(entry.plan.expect)
    if entry.fresh is not None:
        seeds = entry.fresh.seeds
        yield from (
            "",
            f"On {count(len(seeds), 'seed')} that the config does not name, {name_seeds(seeds)}:",
            "",
        )
        yield success_table(entry.fresh).to_markdown().rstrip()
    for found, plan in entry.records:
        since = "Its config does not take these keys any more." if plan is None else found.since(plan)
        yield from ("", f"{found.told} {since}".rstrip(), "", found.table(plan).to_markdown().rstrip())
        changed = found.changed(plan) | changed
    if changed:
        yield from ("", *(f"- {line}" for line in changed_lines(changed)))


def _with_keys(path: Path, plan: Plan, found: Record) -> Plan | None:
    """The grid of a config with the keys that it was recorded with; None where it takes them no more."""
    try:
        return read_grid([str(path), *found.keys]) if found.keys else plan
    except UserError:
        return None


def _lost(study: Path, told: Collection[str]) -> list[str]:
    """What is recorded of configs of which the book has no section, a line each."""
    lines = []
    for found in read_records(study):
        if found.config not in told:
            exists = (study / "config" / f"{found.config}.yaml").exists()
            why = "claims nothing any more" if exists else "is no config of the study any more"
            held = sum(claim.verdict == "holds" for claim in found.claims)
            lines.append(
                f"- `{found.config}` {why}. {found.told} {held} of {count(len(found.claims), 'claim')} held."
            )
    return ["", *lines] if lines else []


def success_table(fresh: Fresh) -> Table:
    """One row a claim: for how many seeds it holds by itself, and of how many that is not told."""
    rows = tuple(
        (verdict.expectation.claim, verdict.expectation.bound, verdict.shown, str(held))
        for verdict, held in zip(fresh.verdicts, fresh.held, strict=True)
    )
    return Table("Seeds for which each claim holds.", ("claim", "expected", "found", "holds for"), rows)


def _whole(entries: Sequence[Entry]) -> str:
    """What all of it takes, as far as finished runs tell."""
    n_runs = sum(len(entry.plan.runs) for entry in entries)
    n_finished = sum(len(entry.finished) for entry in entries)
    known = [seconds for entry in entries if (seconds := entry.seconds_of_all) is not None]
    took = f" {count(len(known), 'grid')} of {len(entries)} are known to take "
    took = f"{took}{sum(known) / 3600:.1f} hours of one process." if known else ""
    return (
        f"{n_finished:,} of {count(n_runs, 'run')} have finished here.{took} `nanollama book --run` runs "
        "what is missing of all grids, one after the other; with each not run here stands what it takes."
    )


def _work(entry: Entry) -> str:
    """How much of a grid has been run here, how long it took, and with which code."""
    n_diverged = sum(row["status"] == DIVERGED for row in entry.rows)
    diverged = f", {n_diverged} diverged" if n_diverged else ""
    return (
        f"{len(entry.finished)} of {count(len(entry.plan.runs), 'run')} finished{diverged}, "
        f"{show_work(seconds_of(entry.rows))} of work; commit "
        f"{', '.join(short_commits(row['commit'] for row in entry.rows))}."
    )


def _price(plan: Plan) -> str:
    """What all runs of a grid would take."""
    trainings = [getattr(run.config, "training", None) for run in plan.runs]
    n_steps = sum(training.n_steps for training in trainings if training is not None)
    return f"Not run here: {count(len(plan.runs), 'run')}, {n_steps:,} steps in all."
