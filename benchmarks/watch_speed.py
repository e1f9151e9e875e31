"""`nanollama watch`: what it costs a run to be followed, and how soon a page of many runs is there.

``python -m benchmarks watch``. A training is followed as by a page that is open, state and curves every 1.5
seconds; what counts is the processor time of the training alone, which other work of the machine leaves
nearly as it is. Many runs are shown from samples of their rows, beside reading all rows first.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from urllib.request import urlopen

from benchmarks.turns import Contestant, Pair, Step
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import CONFIG, METRICS
from nanollama.watch.series import SETTING, View
from nanollama.watch.watched import Watched

ROOT = Path(__file__).parents[1]
DEBUG = "apps/memory/config/debug.yaml"
SECONDS_BETWEEN = 1.5
BUDGET_SECONDS = 100.0
AIM_TRAIN, AIM_PAGE = 0.99, 10.0


def training(folder: Path, n_steps: int, is_followed: bool) -> Step:
    """Debug runs of so many steps, a row a step; steps a second of the training's own processor time."""
    numbers = count()

    def step(number: int) -> float:
        run = folder / f"run_{next(numbers)}"
        keys = ["training.log_every=1", "training.eval_every=null", f"training.n_steps={n_steps}"]
        argv = [sys.executable, "-m", "apps.memory.train", DEBUG, *keys, f"run_dir={run}"]
        began = time.perf_counter()
        trainer = subprocess.Popen(
            [*argv, f"data_root={folder}/data", "training.device=cpu"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        if is_followed:
            follow(run, trainer)
        _, status, used = os.wait4(trainer.pid, 0)
        if status:
            raise RuntimeError(f"the training ended with {os.waitstatus_to_exitcode(status)}")
        return n_steps * (time.perf_counter() - began) / (used.ru_utime + used.ru_stime)

    return step


def follow(run: Path, trainer: subprocess.Popen[bytes]) -> None:
    """Ask for state and curves of a run as its page does, until the run has ended."""
    while not (run / CONFIG).exists() and not _has_ended(trainer):
        time.sleep(0.01)
    with watching(run) as url:
        while not _has_ended(trainer):
            state = json.loads(_get(url, "api/state"))
            for measure in state["shown"]:
                _get(url, f"api/curves?measure={measure}&group={state['group']}")
            time.sleep(SECONDS_BETWEEN)


@contextmanager
def watching(folder: Path) -> Iterator[str]:
    """The address of a page of a folder."""
    argv = [sys.executable, "-m", "nanollama", "watch", str(folder)]
    server = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.kill()
        server.wait()


def first_page(folder: Path, n_runs: int) -> Step:
    """What a page shows at first: state and curves of all runs."""

    def step(number: int) -> float:
        watched = Watched([folder])
        watched.refresh()
        group = watched.state()["group"]
        assert len(watched.curves(View("loss", group=group))) in (1, n_runs)
        return n_runs

    return step


def all_rows(folder: Path, n_runs: int) -> Step:
    """All rows of all runs."""

    def step(number: int) -> float:
        for path in folder.glob(f"*/{METRICS}"):
            RowFile(path).read()
        return n_runs

    return step


def mean_of_all(folder: Path, n_runs: int) -> Step:
    """The mean of all runs, with its bands; of runs that are read."""
    watched = Watched([folder])
    watched.read_all()

    def step(number: int) -> float:
        assert len(watched.curves(View("loss", group=SETTING))) == 1
        return n_runs

    return step


def write_runs(folder: Path, n_runs: int, n_rows: int) -> None:
    """Runs of one setting, each with so many rows."""
    for seed in range(n_runs):
        run, numbers = folder / f"seed_{seed}", random.Random(seed)
        run.mkdir(parents=True)
        (run / CONFIG).write_text(json.dumps({"study": "toy", "name": run.name, "training": {"seed": seed}}))
        lines = (
            json.dumps({"step": 10 * row, "loss": 8 / row + numbers.random(), "elapsed_seconds": row / 2})
            for row in range(1, n_rows + 1)
        )
        (run / METRICS).write_text("\n".join(lines) + "\n")


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    n_steps, n_runs, n_rows = (5, 3, 20) if quick else (60, 200, 10_000)
    write_runs(folder / "many", n_runs, n_rows)
    many = f"{n_runs} runs of {n_rows:,} rows"
    reading = Contestant("all rows are read", partial(all_rows, folder / "many", n_runs))
    return [
        Pair(
            f"{many}: state and curves of a page that is opened",
            "runs/s",
            Contestant("from samples", partial(first_page, folder / "many", n_runs)),
            reading,
            AIM_PAGE,
        ),
        Pair(
            f"{many}: all as one mean with bands",
            "runs/s",
            Contestant("from columns", partial(mean_of_all, folder / "many", n_runs)),
            reading,
        ),
        Pair(
            f"train, d_model 32 x 2 layers, {n_steps} steps, a row each",
            "steps/s of its processor time",
            Contestant("followed by a page", partial(training, folder / "followed", n_steps, True)),
            Contestant("alone", partial(training, folder / "alone", n_steps, False)),
            AIM_TRAIN,
        ),
    ]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without taking its exit code, which comes with what it has used."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _get(url: str, path: str) -> bytes:
    with urlopen(url + path) as reply:
        return bytes(reply.read())
