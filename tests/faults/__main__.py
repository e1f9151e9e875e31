"""A campaign of faults: ``python -m tests.faults [NAME ...] [--minutes M] [--seed S] [--only NUMBER]``.

Kinds of faults in turn, each for its share of the time. What does not end as it must is printed with what
does it again; the exit code is then 1.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: children are forked

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.campaign import Campaign, trials
from tests.faults.configs import Configs
from tests.faults.files import Files
from tests.faults.grids import Grids
from tests.faults.kills import Calls, Kills
from tests.faults.questions import Questions
from tests.faults.ranks import Ranks
from tests.faults.surroundings import Surroundings

CAMPAIGNS: dict[str, type[Campaign]] = {
    "kills": Kills,
    "calls": Calls,
    "grids": Grids,
    "ranks": Ranks,
    "files": Files,
    "surroundings": Surroundings,
    "configs": Configs,
    "questions": Questions,
}
MANY = 10**9


def main(argv: Sequence[str] | None = None) -> int:
    """Do, print, count; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="A campaign of faults.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(CAMPAIGNS)}; default: all"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="for all of them together; default 5")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--only", type=int, default=None, metavar="NUMBER", help="this trial of each alone")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(CAMPAIGNS):
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    names = list(dict.fromkeys(arguments.names or CAMPAIGNS))
    first, n_most = (0, MANY) if arguments.only is None else (arguments.only, 1)
    n_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            seconds = 60 * arguments.minutes / len(names)
            n_failed += wage(name, Path(folder) / name, seed, first, seconds, n_most)
    return 1 if n_failed else 0


def wage(name: str, folder: Path, seed: int, first: int, seconds: float, n_most: int) -> int:
    """One campaign, in a folder that it makes; the number of its failures."""
    begun, n_trials, n_failed = time.monotonic(), 0, 0
    folder.mkdir()
    for failure in trials(name, CAMPAIGNS[name](folder), seed, first, seconds, n_most):
        n_trials += 1
        if failure is not None:
            n_failed += 1
            print(f"{name} --seed {seed} --only {failure.number}: {failure.what}", flush=True)
    seconds = time.monotonic() - begun
    print(f"{name:<10} seed {seed}: {n_trials} trials, {n_failed} failed, {seconds:.0f} s", flush=True)
    return n_failed


if __name__ == "__main__":
    sys.exit(main())
