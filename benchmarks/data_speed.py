"""People per second of writing all data of the memory study: people, biographies, both kinds of dialogs, SQL.

``python -m benchmarks data``. Ours is the command users run, the starts of Python included; the other is the
loop one writes first, which makes each line with `json.dumps` and inserts people as they come.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from apps.memory.dataset.dialogs import DIALOG_KINDS, make_dialog
from apps.memory.dataset.lines import biography_line, dialog_line, person_line
from apps.memory.dataset.people import ATTRIBUTES, POPULATIONS, people
from apps.memory.dataset.sql_db import write_rows
from benchmarks.turns import Contestant, Pair, Step

SCRIPT = Path(__file__).parents[1] / "apps/memory/scripts/generate_data.sh"
N_PEOPLE = 40_000
AIM = 1.0
BUDGET_SECONDS = 60.0


def ours(folder: Path, n_people: int) -> Step:
    """The command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def step(number: int) -> float:
        command = ["bash", str(SCRIPT), str(n_people), "--yes", "--root", str(folder / "ours")]
        subprocess.run(command, check=True, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder / "ours")
        return n_people

    return step


def plain(folder: Path, n_people: int) -> Step:
    """The loop."""

    def step(number: int) -> float:
        target = folder / "plain"
        target.mkdir()
        with open(target / "people.jsonl", "w") as facts, open(target / "biographies.jsonl", "w") as texts:
            for person in people(0, n_people):
                facts.write(person_line(person))
                texts.write(biography_line(person))
        for kind in DIALOG_KINDS:
            with open(target / f"{kind}.jsonl", "w") as dialogs:
                for person in people(0, n_people):
                    for attribute in ATTRIBUTES:
                        dialogs.write(dialog_line(make_dialog(person, attribute, kind)))
        everybody = (person[1:] for population in POPULATIONS for person in people(0, n_people, population))
        write_rows(target / "people.sqlite", everybody)
        shutil.rmtree(target)
        return n_people

    return step


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    n_people = 1000 if quick else N_PEOPLE
    command = Contestant("generate_data.sh", partial(ours, folder, n_people), n_warm=0)
    loop = Contestant("plain loop", partial(plain, folder, n_people), n_warm=0)
    return [Pair(f"all data of {n_people:,} people", "people/s", command, loop, AIM)]
