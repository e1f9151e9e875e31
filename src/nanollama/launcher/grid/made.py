"""What runs were made with: commits, versions and machines of every start, not of the first alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nanollama.monitor.files import read_json
from nanollama.monitor.successor import ENVIRONMENT

N_COMMIT_DIGITS = 7
UNKNOWN = "not known"
BETWEEN = ", "
"""Of commits in a row of results."""


class Made(NamedTuple):
    """What a run, or several of them, were made with.

    Args:
        torch: versions of it.
        devices: such as cpu or cuda.
        precisions: formats of matrix products; empty: not known of any.
    """

    torch: list[str]
    devices: list[str]
    precisions: list[str]


def made_with(folders: Iterable[Path]) -> Made:
    """What the runs in some folders were made with, whenever they were started or gone on with."""
    runs = [read_json(folder / ENVIRONMENT) for folder in folders]
    starts = [start for environment in runs for start in _starts(environment)]
    formats = {name for run in runs for name in (run.get("precision") or [UNKNOWN])}
    return Made(
        torch=sorted({str(_part(start, "versions").get("torch", UNKNOWN)) for start in starts}),
        devices=sorted({str(_part(start, "hardware").get("device", UNKNOWN)) for start in starts}),
        precisions=[] if formats == {UNKNOWN} else sorted(formats),
    )


def commits_of(environment: Mapping[str, Any]) -> str | None:
    """The commits that a run was made with, for a row of results; None: not known of any start.

    They are whole; a plus sign says that files were changed, or not tracked by git.

    Args:
        environment: what the run noted of itself.
    """
    commits = {_commit(start) or UNKNOWN for start in _starts(environment)}
    return None if commits == {UNKNOWN} else BETWEEN.join(sorted(commits))


def short_commits(commits: Iterable[str | None]) -> list[str]:
    """The first digits of all commits of some rows, with the sign of changes since."""
    known = {commit for found in commits for commit in (found or UNKNOWN).split(BETWEEN)}
    return sorted({_shorten(commit) for commit in known})


def _starts(environment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was noted at the first start of a run and each time that it went on."""
    later = environment.get("resumed")
    starts = [environment, *(later if isinstance(later, list) else [])]
    return [start for start in starts if isinstance(start, Mapping)]


def _part(start: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = start.get(name)
    return part if isinstance(part, Mapping) else {}


def _commit(start: Mapping[str, Any]) -> str | None:
    commit = start.get("commit")
    return f"{commit}+" if commit and (start.get("diff") or start.get("untracked")) else commit


def _shorten(commit: str) -> str:
    return commit if commit == UNKNOWN else f"{commit[:N_COMMIT_DIGITS]}{'+' * commit.endswith('+')}"
