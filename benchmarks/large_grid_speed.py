"""A grid of 10,000 runs: how many runs a second are validated, and how many told the state of.

``python -m benchmarks large_grid``. All are whole commands, the start of Python included. The others do the
least that is needed: they validate each combination as one config, and read each result; so the aims are
below 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.turns import Contestant, Pair, Step
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[1]
BUDGET_SECONDS = 60.0
AIM_EXPAND, AIM_STATUS = 0.2, 0.1
N_RUNS_A_SEED = 200
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
EXPAND = "import sys; from nanollama.launcher.plan import read_plan; read_plan(sys.argv[1:])"
VALIDATE = """\
import itertools, json, sys
from apps.memory.settings import MemoryConfig
from nanollama.config.source import read_source
tree = read_source(sys.argv[1:2]).plain()
axes = range(int(sys.argv[2])), [2**n for n in range(1, 9)], range(4, 104, 4)
for seed, n_people, d_model in itertools.product(*axes):
    tree["training"]["seed"], tree["data"]["n_people"], tree["model"]["d_model"] = seed, n_people, d_model
    MemoryConfig.model_validate_json(json.dumps(tree))
"""
STATUS = (
    "import sys; from nanollama.cli.command import main; sys.exit(main(['grid', 'status', *sys.argv[1:]]))"
)
READ = """\
import collections, json, pathlib, sys
paths = pathlib.Path(sys.argv[1]).glob("*/result.json")
print(collections.Counter(json.loads(path.read_text())["status"] for path in paths))
"""


def command(n_runs: int, code: str, *arguments: str) -> Step:
    """``python -c code arguments``, which deals with so many runs."""

    def step(number: int) -> float:
        argv = [sys.executable, "-c", code, *arguments]
        subprocess.run(argv, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        return n_runs

    return step


def finish_all(config: Path) -> None:
    """Write the results of all runs of a grid."""
    for run in read_plan([str(config)]).runs:
        run.folder.mkdir(parents=True)
        result = {"status": "finished", "step": 300, "seconds": 1.0, "n_params": 1, "metrics": {"loss": 0.1}}
        (run.folder / "result.json").write_text(json.dumps({**result, "config_hash": run.id}))


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    n_seeds = 1 if quick else 50
    n_runs, runs = n_seeds * N_RUNS_A_SEED, folder / "runs"
    base = ROOT / "apps/memory/config/debug.yaml"
    sizes = ", ".join(map(str, range(4, 104, 4)))
    config = folder / "large.yaml"
    config.write_text(GRID.format(base=base, runs=runs, sizes=sizes, n_seeds=n_seeds))
    finish_all(config)

    def contestant(name: str, code: str, *arguments: object) -> Contestant:
        return Contestant(name, partial(command, n_runs, code, *map(str, arguments)), n_warm=0)

    setting = f"grid of {n_runs:,} runs"
    return [
        Pair(
            f"{setting}, expand and validate",
            "runs/s",
            contestant("read_plan", EXPAND, config),
            contestant("a loop that validates", VALIDATE, base, n_seeds),
            AIM_EXPAND,
        ),
        Pair(
            f"{setting}, status, all finished",
            "runs/s",
            contestant("nanollama grid status", STATUS, config),
            contestant("a loop that reads results", READ, runs),
            AIM_STATUS,
        ),
    ]
