"""Runs per hour of a grid: two at a time against one after another, with 1 and with 2 threads.

``python -m benchmarks.grid_speed`` trains the same small models (2 layers, d_model 16-36, learned by heart)
in three ways, one after the other in one go, and prints runs per hour and the ratios. One after another is
what a shell loop over ``python -m apps.memory.train`` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.row import Row

ROOT = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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


def one_after_another(config: Path, runs: Path, n_threads: int) -> float:
    """Seconds of a loop over the runs of a grid."""
    from nanollama.config import dump_config
    from nanollama.launcher.plan import read_plan

    files = []
    for item in read_plan([str(config)]).runs:
        path = runs / f"{config.stem}-{item.name}.yaml"
        path.write_text(dump_config(item.config), encoding="utf-8")
        files.append(path)
    began = time.perf_counter()
    for path in files:
        run(["apps.memory.train", str(path)], n_threads)
    return time.perf_counter() - began


def side_by_side(config: Path, n_jobs: int) -> float:
    """Seconds of the local pool."""
    began = time.perf_counter()
    run(["apps.memory.local_grid", str(config), f"local.n_jobs={n_jobs}", "local.n_threads=1"], 1)
    return time.perf_counter() - began


def measure(n_runs: int, n_steps: int) -> dict[str, float]:
    """Runs per hour of each way, all in one go; a multiple of three runs, of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)

        def grid(name: str, n_runs: int = n_runs, n_steps: int = n_steps) -> Path:
            path = runs / f"{name}.yaml"
            base = ROOT / "apps/memory/config/debug.yaml"
            places = {"base": base, "name": name, "data": runs / "data", "runs": runs}
            text = GRID.format(**places, n_seeds=n_runs // 3, n_steps=n_steps)
            path.write_text(text, encoding="utf-8")
            return path

        side_by_side(grid("warm_up", n_runs=3, n_steps=20), 2)  # writes the data, fills the disk's cache
        seconds = {
            "one after another, 1 thread": one_after_another(grid("one"), runs, 1),
            "one after another, 2 threads": one_after_another(grid("two"), runs, 2),
            "2 jobs of 1 thread": side_by_side(grid("grid"), 2),
        }
    return {name: 3600 * n_runs / value for name, value in seconds.items()}


def rows(quick: bool = False) -> list[Row]:
    """For `make bench`."""
    n_runs = 3 if quick else 24
    found = measure(n_runs, n_steps=20 if quick else 100)
    ours = found.pop("2 jobs of 1 thread")
    work = f"local grid of {n_runs} small runs, 2 jobs of 1 thread"
    return [Row(work, ours, "runs/h", other, name) for name, other in found.items()]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.work}: {row.ours:.0f} runs/h, {row.ratio:.2f} times {row.compared_with}")
