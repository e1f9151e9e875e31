"""A grid of 10,000 runs: seconds to describe and validate it, and to say what became of it.

``python -m benchmarks.large_grid_speed``; both are times of a whole command, the start of Python included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.row import Row

ROOT = Path(__file__).parents[1]
GRID = """\
base: {base}
name: large
run_dir: {runs}
data_root: {runs}/data
grid:
  product:
    data.n_people: [2, 4, 8, 16, 32, 64, 128, 256]
    model.d_model: [{sizes}]
  seeds: {n_seeds}
"""
AIMS_SECONDS = {"expand and validate": 10.0, "status, all finished": 5.0}


def seconds_of(code: str, *arguments: str) -> float:
    """Seconds of ``python -c code arguments``."""
    began = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def finish_all(config: Path) -> int:
    """Write the results of all runs of a grid; returns how many there are."""
    from nanollama.launcher.plan import read_plan

    runs = read_plan([str(config)]).runs
    for run in runs:
        run.folder.mkdir(parents=True)
        result = {"status": "finished", "step": 300, "seconds": 1.0, "n_params": 1, "metrics": {"loss": 0.1}}
        (run.folder / "result.json").write_text(json.dumps({**result, "config_hash": run.id}))
    return len(runs)


def measure(n_seeds: int) -> tuple[int, dict[str, float]]:
    """The number of runs, and the seconds of each piece of work; 200 runs a seed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        sizes = ", ".join(map(str, range(4, 104, 4)))
        base = ROOT / "apps/memory/config/debug.yaml"
        path.write_text(GRID.format(base=base, runs=f"{folder}/runs", sizes=sizes, n_seeds=n_seeds))
        plan = "import sys; from nanollama.launcher.plan import read_plan; read_plan(sys.argv[1:])"
        seconds = {"expand and validate": seconds_of(plan, str(path))}
        n_runs = finish_all(path)
        status = "import sys; from nanollama.cli.command import main; sys.exit(main(sys.argv[1:]))"
        seconds["status, all finished"] = seconds_of(status, "grid", "status", str(path))
    return n_runs, seconds


def rows(quick: bool = False) -> list[Row]:
    """For `make bench`."""
    n_runs, seconds = measure(1 if quick else 50)
    return [
        Row(f"grid of {n_runs:,} runs: {work}", seconds[work], "s", AIMS_SECONDS[work], "aim")
        for work in seconds
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.work}: {row.ours:.2f} s (aim: {row.other:g} s)")
