"""Training beside other work: idle threads that soon sleep, as is the default here, against ones that spin.

``python -m benchmarks busy``: a small model learns with a thread a core, alone and beside two processes that
do nothing but spin. OpenMP reads how threads wait when it is loaded, so each contestant trains in a process
of its own, started with its variables.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.turns import Contestant, Pair, Step
from nanollama.launcher.local.pool import THREAD_VARIABLES
from nanollama.waiting import DEFAULTS, VARIABLES

ROOT = Path(__file__).parents[1]
SPINNING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
"""What the runtimes do where nobody says anything."""
N_BESIDE = 2
SPIN = ["sh", "-c", "while :; do :; done"]
UNIT = "dialogs/s"
BUDGET_SECONDS = 70.0


def training(variables: Mapping[str, str], n_beside: int, n_steps: int) -> Step:
    """So many steps at a time, beside so many processes that spin meanwhile."""
    ours = {*VARIABLES, *THREAD_VARIABLES}
    environment = {name: value for name, value in os.environ.items() if name not in ours} | dict(variables)
    trainer = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.busy_speed"],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    requests, answers = trainer.stdin, trainer.stdout
    assert requests is not None and answers is not None
    answers.readline()  # it has imported all, with nobody beside

    def step(number: int) -> float:
        beside = [subprocess.Popen(SPIN) for _ in range(n_beside)]
        try:
            print(n_steps, file=requests, flush=True)
            return float(answers.readline())
        finally:
            for process in beside:
                process.kill()
                process.wait()

    return step


def serve() -> None:
    """The trainer: for each number that comes in, so many steps, and how many dialogs those were."""
    from benchmarks.training_speed import Size, ours

    step = ours(Size(d_model=32, n_layers=2, n_heads=2, n_warm=1), "qa", compile_model=False)
    print("ready", flush=True)
    for line in sys.stdin:
        print(sum(step(number) for number in range(int(line))), flush=True)


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    n_steps = 1 if quick else 10  # long enough for the machine to share itself out
    setting = "train, d_model 32 x 2 layers"
    alone = Contestant("alone, threads sleep soon", partial(training, DEFAULTS, 0, n_steps))
    spin = Contestant("alone, threads spin", partial(training, SPINNING, 0, n_steps))
    beside = Contestant(
        f"beside {N_BESIDE} spinning processes", partial(training, DEFAULTS, N_BESIDE, n_steps)
    )
    return [Pair(setting, UNIT, alone, spin, 0.97), Pair(setting, UNIT, beside, alone, 0.25)]


if __name__ == "__main__":
    serve()
