"""Runs per hour of a grid: two at a time, of one thread each, against one after another with two threads.

``python -m benchmarks grid`` trains small models (2 layers, d_model 16-36, learned by heart). One after
another is what a shell loop over ``python -m apps.memory.train`` does; starts of Python are included. Such a
loop is slower still with one thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.turns import Contestant, Pair, Step
from nanollama.config import dump_config
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BUDGET_SECONDS = 140.0
AIM = 1.2
GRID = """\
base: {base}
name: {name}
data_root: {data}
run_dir: {runs}/{name}
grid:
  product:
    model.d_model: [16, 24, 36]
  seeds: {n_seeds}
data: {{n_people: 32}}
training:
  n_steps: {n_steps}
  batch_size: 64
  log_every: 50
  eval_every: null
  optimizer: {{warmup_steps: 10}}
"""


def run(arguments: list[str], n_threads: int) -> None:
    """Run ``python -m`` with so many threads."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(n_threads))}
    command = [sys.executable, "-m", *arguments]
    silent = subprocess.DEVNULL
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=silent, stderr=silent)


def write_grid(folder: Path, name: str, n_seeds: int, n_steps: int) -> Path:
    """The config of a grid of three runs a seed."""
    path = folder / f"{name}.yaml"
    places = {"base": ROOT / "apps/memory/config/debug.yaml", "data": folder / "data", "runs": folder}
    text = GRID.format(**places, name=name, n_seeds=n_seeds, n_steps=n_steps)
    path.write_text(text, encoding="utf-8")
    return path


def one_after_another(folder: Path, n_steps: int) -> Step:
    """A loop over three runs."""

    def step(number: int) -> float:
        config = write_grid(folder, f"loop-{number}", 1, n_steps)
        runs = read_plan([str(config)]).runs
        for item in runs:
            path = folder / f"{config.stem}-{item.name}.yaml"
            path.write_text(dump_config(item.config), encoding="utf-8")
            run(["apps.memory.train", str(path)], 2)
        return 3600.0 * len(runs)

    return step


def side_by_side(folder: Path, n_seeds: int, n_steps: int) -> Step:
    """A grid in the local pool."""

    def step(number: int) -> float:
        config = write_grid(folder, f"grid-{number}", n_seeds, n_steps)
        run(["apps.memory.local_grid", str(config), "local.n_jobs=2", "local.n_threads=1"], 1)
        return 3600.0 * 3 * n_seeds

    return step


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    n_seeds, n_steps = (1, 10) if quick else (2, 100)
    if not quick:
        side_by_side(folder, 1, 10)(-1)  # writes the data, fills the disk's cache
    pool = Contestant("2 jobs of 1 thread", partial(side_by_side, folder, n_seeds, n_steps), n_warm=0)
    loop = Contestant("one after another, 2 threads", partial(one_after_another, folder, n_steps), n_warm=0)
    return [Pair(f"local grid of {3 * n_seeds} small runs", "runs/h", pool, loop, AIM)]
