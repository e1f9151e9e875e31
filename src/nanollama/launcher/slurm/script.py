"""The sbatch scripts of a submission.

A job is a command, ``python -m nanollama.launcher.slurm.job SUBMISSION ARRAY``; the folder of the submission
holds all there is to it, as text.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import SlurmConfig
from nanollama.launcher.slurm.arrays import Array
from nanollama.launcher.slurm.examinations import EVALUATION
from nanollama.monitor.environment import SNAPSHOT_VARIABLE
from nanollama.version import SNAPSHOT_CODE, SNAPSHOT_FILE

EVAL, RUN_KEY = "eval", "run"
"""The verb that examines a trained model, and the key of its config that names the run or the checkpoint."""


def array_script(
    plan: Plan,
    folder: Path,
    index: int,
    array: Array,
    jobs: Sequence[str] = (),
    needed: Sequence[str] = (),
) -> str:
    """The sbatch script of an array of a submission; of a job alone where the plan has no grid.

    Args:
        plan: what is submitted.
        folder: of the submission.
        index: of the array within it.
        array: of its runs.
        jobs: Slurm's numbers of the arrays that were submitted before it.
        needed: Slurm's numbers of the jobs that the whole grid comes after.
    """
    command = build_command(folder, index, plan.slurm.n_cpus)
    if plan.seed_key is None:
        return _script(plan.name, plan.slurm, folder, "%j", command)
    dependency = array.dependency(jobs, needed)
    options = {
        "array": array.tasks,
        "dependency": dependency,
        "kill-on-invalid-dep": None if dependency is None else "yes",
    }
    return _script(plan.name, plan.slurm, folder, "%A_%a", command, options)


def evaluation_script(plan: Plan, folder: Path) -> str:
    """The sbatch script of a job that examines the checkpoint that is its argument."""
    alone = plan.slurm.model_copy(update={"n_nodes": 1, "n_processes": 1})
    module = f"{plan.module.rpartition('.')[0]}.{EVAL}"
    child = ["nanollama.launcher.slurm.child", module, str(folder / EVALUATION)]
    command = f'{_in_copy(folder, plan.slurm.n_cpus, *child)} {RUN_KEY}="$1"'
    return _script(f"{plan.name}-{EVAL}", alone, folder, "%j", command)


def build_command(folder: Path, index: int, n_threads: int) -> str:
    """The shell command of the jobs of an array.

    Args:
        folder: of the submission.
        index: of the array within it.
        n_threads: of each process.
    """
    return _in_copy(folder, n_threads, "nanollama.launcher.slurm.job", str(folder), str(index))


def _in_copy(folder: Path, n_threads: int, *module: str) -> str:
    """The shell command ``python -m MODULE``, run with the copy of the code that a submission holds."""
    code = folder / SNAPSHOT_CODE
    paths = [str(code / "src"), str(code)]
    outer = os.environ.get("PYTHONPATH")
    environment = {
        "PYTHONPATH": os.pathsep.join([*paths, *([outer] if outer else [])]),
        SNAPSHOT_VARIABLE: str(folder / SNAPSHOT_FILE),
        "OMP_NUM_THREADS": str(n_threads),
    }
    variables = [f"{name}={value}" for name, value in environment.items()]
    return shlex.join(["env", *variables, sys.executable, "-m", *module])


def _script(
    name: str,
    config: SlurmConfig,
    folder: Path,
    job: str,
    command: str,
    more: Mapping[str, str | None] | None = None,
) -> str:
    """A script that runs a command once on each node.

    Args:
        name: of the job.
        config: what Slurm is asked for.
        folder: of the submission, where the job's own output goes.
        job: how sbatch writes its number in the name of that output.
        command: for the shell.
        more: further options of sbatch; those that are None are not given.
    """
    n_cpus = config.n_cpus * config.n_processes
    options: Mapping[str, str | int | None] = {
        "account": config.account,
        "constraint": config.constraint,
        "cpus-per-task": n_cpus,
        "gpus-per-node": config.n_gpus or None,
        "job-name": name,
        "mem": None if config.mem_gb is None else f"{math.ceil(config.mem_gb * 1024)}MB",
        "nodes": config.n_nodes,
        "ntasks-per-node": 1,
        "open-mode": "append",
        "output": f"{folder}/{job}_0_log.out",
        "partition": config.partition,
        "qos": config.qos,
        "requeue": "",
        "signal": f"USR2@{config.grace_seconds}",
        "time": config.minutes,
        **(more or {}),
    }
    lines = [
        f"#SBATCH --{key}{f'={shlex.quote(str(value))}' if value != '' else ''}"
        for key, value in sorted(options.items())
        if value is not None
    ]
    # srun has not taken the number of CPUs from sbatch since 22.05
    output = f"{folder}/{job}_%t_log.out"
    srun = shlex.join(["srun", "--unbuffered", "--output", output, "--cpus-per-task", str(n_cpus)])
    return "\n".join(["#!/bin/bash", *lines, *config.setup, f"{srun} {command}", ""])
