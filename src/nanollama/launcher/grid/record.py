"""What grids brought out for those who keep a study, in files that are committed with its configs.

``nanollama grid record CONFIG [key=value ...]`` writes one into ``apps/<study>/recorded/`` once all runs have
ended: finished, or diverged, which is an outcome as well. The book of claims tells of it wherever the study
is, with the runs or without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from pydantic import Field, ValidationError

from nanollama.config import Config
from nanollama.config.arguments import split_arguments
from nanollama.errors import UserError
from nanollama.launcher.grid.identity import claims_hash, known_keys, runs_hash, values_hash
from nanollama.launcher.grid.made import UNKNOWN, made_with, short_commits
from nanollama.launcher.grid.outcome import judge_grid
from nanollama.launcher.grid.results import Row, collect
from nanollama.launcher.grid.success import held_by_seed
from nanollama.launcher.grid.verdict import DIVERGED, ENDED
from nanollama.launcher.grid.verdict_table import changed_claims, mark
from nanollama.launcher.plan import Plan, name_seeds, read_grid
from nanollama.measures import is_number
from nanollama.monitor.files import write_atomically
from nanollama.report.tables import Table
from nanollama.studies import find_study
from nanollama.wording import count

FOLDER = "recorded"
MAX_SECONDS = 1e12
"""More than any work takes, and less than what has no number of days."""


class Told(Config):
    """A claim and what came of it, in the words of the verdict's table."""

    claim: str = Field(description="What is claimed.")
    measure: str = Field(description="What it is about.")
    expected: str = Field(description="The bound.")
    found: str = Field(description="What was found.")
    holds_for: str = Field(description="Seeds for which it holds by itself, and of how many it is not told.")
    verdict: str = Field(description="Whether it holds.")
    changed: str | None = Field(None, description="When and why it was changed; null: not by then.")


class Record(Config):
    """A grid that has been run whole."""

    config: str = Field(description="Name of the config of the study, without its ending.")
    keys: list[str] = Field(description="Those typed after the config that say which runs are made.")
    recorded: date = Field(description="Day on which this was written.")
    commits: list[str] = Field(description="Of the code that the runs were made with; + if it was changed.")
    torch: list[str] = Field(description="Versions of torch that they were made with.")
    devices: list[str] = Field(description="Where they were made: cpu, cuda or mps.")
    precisions: list[str] = Field([], description="Formats of their matrix products; none: not known.")
    seeds: list[int] = Field(description="Of the grid.")
    n_runs: int = Field(description="Number of runs.")
    n_diverged: int = Field(0, description="Runs of those that diverged.")
    seconds: float = Field(ge=0, le=MAX_SECONDS, description="Of work, all runs together.")
    claims: list[Told] = Field(description="The claims, in the order of the config.")
    runs_hash: str | None = Field(None, description="Of what was trained; null: not known.")
    known_keys: list[str] = Field([], description="Of the runs' configs as they were; none: not known.")
    values_hash: str | None = Field(None, description="Of their values, defaults too; null: not known.")
    claims_hash: str | None = Field(None, description="Of the claims, whole; null: not known.")

    @property
    def told(self) -> str:
        """What was run, in a sentence."""
        keys = f" with {' '.join(f'`{key}`' for key in self.keys)}" if self.keys else ""
        ended = f", {self.n_diverged} of them diverged" if self.n_diverged else ""
        return (
            f"Recorded on {self.recorded}{keys}: {count(self.n_runs, 'run')}{ended}, seeds "
            f"{name_seeds(self.seeds)}, {show_work(self.seconds)} of work on {', '.join(self.devices)}"
            f"{self._formats}; "
            f"torch {', '.join(self.torch)}, commit {', '.join(self.commits)}."
        )

    @property
    def _formats(self) -> str:
        known = [name for name in self.precisions if name != UNKNOWN]
        if not known:
            return ", format not known"
        some = ", of some runs format not known" if UNKNOWN in self.precisions else ""
        return f" in {', '.join(known)}{some}"

    def changed(self, plan: Plan | None) -> dict[str, str]:
        """Of each claim that was changed, when and why, as it was recorded or as the config says by now.

        Args:
            plan: of the config as it is now, with the record's keys; None: there is none any more.
        """
        recorded = {told.claim: told.changed for told in self.claims if told.changed is not None}
        says = plan is not None and self._claims_as(plan)
        return recorded | (changed_claims(plan.expect) if plan is not None and says else {})

    def table(self, plan: Plan | None) -> Table:
        """One row a claim; for its argument see `changed`."""
        changed = self.changed(plan)
        rows = tuple(
            (
                told.claim,
                told.measure,
                told.expected,
                told.found,
                told.holds_for,
                mark(told.verdict, told.claim in changed),
            )
            for told in self.claims
        )
        columns = ("claim", "measure", "expected", "found", "holds for seeds", "verdict")
        return Table("What came of each claim.", columns, rows)

    def is_of(self, plan: Plan) -> bool:
        """Does the grid still train what was trained, and claim what was judged, as far as that is known?"""
        return self._claims_as(plan) and self.trains_as(plan)

    def since(self, plan: Plan) -> str:
        """What has become of the grid since, in a sentence; empty where it is the same.

        Args:
            plan: of the config as it is now, with the record's keys.
        """
        if not self._claims_as(plan):
            return "Its config claims something else since."
        if not self.trains_as(plan):
            return "Its config trains something else since."
        return "" if self.runs_hash else "Whether its config trains the same is not known."

    def trains_as(self, plan: Plan) -> bool:
        """Does the grid still train what was trained, as far as that is known?"""
        if (self.seeds, self.n_runs) != (plan.seeds, len(plan.runs)):
            return False
        now = values_hash(plan, self.known_keys) if self.values_hash else None
        if now is not None:
            return now == self.values_hash
        return self.runs_hash in (None, runs_hash(plan))  # keys are gone, which were defaults if this holds

    def _claims_as(self, plan: Plan) -> bool:
        judged = [(told.claim, told.measure, told.expected) for told in self.claims]
        claimed = [(claim.claim, claim.subject, claim.bound) for claim in plan.expect]
        return judged == claimed and self.claims_hash in (None, claims_hash(plan))


def record(argv: Sequence[str]) -> Path:
    """Write what the grid of a study's config has brought out into the study; the file.

    Args:
        argv: the config and keys, as for ``nanollama grid run``.

    Raises:
        UserError: a run has not ended, nothing is claimed, or the config is none of the study's own.
    """
    plan = read_grid(argv)
    config = Path(split_arguments(argv)[0]).expanduser()
    study = find_study(plan.study)
    if config.resolve().parent != (study.folder / "config").resolve():
        raise UserError(
            f"{config} is no config of {study.folder / 'config'}: only what a study claims is recorded."
        )
    if not plan.expect:
        raise UserError(f"{config} claims nothing: `expect` is empty, so there is nothing to record.")
    rows = collect(plan)
    n_ended = sum(row["status"] in ENDED for row in rows)
    if n_ended < len(plan.runs):
        raise UserError(
            f"{plan.folder}: {n_ended} of {count(len(plan.runs), 'run')} finished or diverged, and only a "
            "whole grid is recorded: `nanollama grid run` runs what is missing."
        )
    found = _record(plan, rows, config.stem)
    path = study.folder / FOLDER / f"{_file_name(found)}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, found.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise UserError(f"The record {path} cannot be written: {error.strerror or error}.") from error
    return path


def read_records(study: Path) -> list[Record]:
    """All that is recorded in the folder of a study.

    Raises:
        UserError: a file there is no record.
    """
    found = []
    for path in sorted((study / FOLDER).glob("*.json")):
        try:
            found.append(Record.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise UserError(
                f"{path} is no record as `nanollama grid record` writes it: write it anew, or delete it."
            ) from error
    return sorted(found, key=lambda one: (one.config, one.keys))


def _file_name(found: Record) -> str:
    """The config's, and for other runs than it names something of their keys."""
    if not found.keys:
        return found.config
    return f"{found.config}-{hashlib.sha256(' '.join(found.keys).encode()).hexdigest()[:8]}"


def _record(plan: Plan, rows: Sequence[Row], config: str) -> Record:
    made = made_with(run.folder for run in plan.runs)
    keys = known_keys(plan)
    claims = [
        Told(
            claim=verdict.expectation.claim,
            measure=verdict.expectation.subject,
            expected=verdict.expectation.bound,
            found=verdict.shown,
            holds_for=str(held),
            verdict=verdict.word,
            changed=verdict.expectation.changed,
        )
        for verdict, held in zip(judge_grid(plan, rows).verdicts, held_by_seed(plan, rows), strict=True)
    ]
    return Record(
        config=config,
        keys=list(plan.keys),
        recorded=date.today(),
        commits=short_commits(row["commit"] for row in rows),
        torch=made.torch,
        devices=made.devices,
        precisions=made.precisions,
        seeds=plan.seeds,
        n_runs=len(plan.runs),
        n_diverged=sum(row["status"] == DIVERGED for row in rows),
        seconds=round(seconds_of(rows), 1),
        claims=claims,
        runs_hash=runs_hash(plan),
        known_keys=keys,
        values_hash=values_hash(plan, keys),
        claims_hash=claims_hash(plan),
    )


def seconds_of(rows: Sequence[Row]) -> float:
    """Of work, all rows together.

    Raises:
        UserError: a result says that it took longer than can be.
    """
    total = 0.0
    for row in rows:
        seconds = row["seconds"] or 0.0
        if not is_number(seconds) or not 0 <= seconds <= MAX_SECONDS:
            raise UserError(
                f"The result of the run {row['run']} says that it took {seconds} seconds: its result.json is "
                "damaged; restore it, or start the run anew."
            )
        total += seconds
    return total


def show_work(seconds: float) -> str:
    """Of seconds, days and hours."""
    return str(timedelta(seconds=round(seconds)))
