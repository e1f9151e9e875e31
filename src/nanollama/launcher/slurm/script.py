"""The sbatch scripts of a submission.

Built on submitit, which checks the parameters and writes the script. Its usual jobs are pickled functions:
opaque, and tied to the state of the code. Ours is a command, ``python -m nanollama.launcher.slurm.job
SUBMISSION ARRAY``, so the methods of its executor that take a command are called directly; the folder of the
submission holds all there is to it, as text.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import SlurmConfig
from nanollama.launcher.slurm.arrays import Array
from nanollama.launcher.slurm.examinations import EVALUATION
from nanollama.monitor.environment import SNAPSHOT_FILE, SNAPSHOT_VARIABLE

if TYPE_CHECKING:
    from submitit import SlurmExecutor

EVAL, RUN_KEY = "eval", "run"
"""The verb that examines a trained model, and the key of its config that names the run or the checkpoint."""


def build_executor(plan: Plan, folder: Path, array: Array, jobs: Sequence[str] = ()) -> SlurmExecutor:
    """Submitit's executor with the parameters of a plan; an array when it has a grid.

    Args:
        plan: what is submitted.
        folder: of the submission.
        array: of its runs.
        jobs: Slurm's numbers of the arrays that were submitted before it.
    """
    executor = _build(plan.name, plan.slurm, folder)
    if plan.seed_key is not None:
        executor.parameters["map_count"] = len(array.runs)  # as submitit itself sets it for arrays of pickles
        executor.parameters["additional_parameters"] |= {"array": array.tasks}
    if (dependency := array.dependency(jobs)) is not None:
        executor.parameters["dependency"] = dependency
        executor.parameters["additional_parameters"] |= {"kill_on_invalid_dep": "yes"}
    return executor


def evaluation_script(plan: Plan, folder: Path) -> str:
    """The sbatch script of a job that examines the checkpoint that is its argument."""
    alone = plan.slurm.model_copy(update={"n_nodes": 1, "n_processes": 1})
    executor = _build(f"{plan.name}-{EVAL}", alone, folder)
    module = f"{plan.module.rpartition('.')[0]}.{EVAL}"
    child = ["nanollama.launcher.slurm.child", module, str(folder / EVALUATION)]
    command = _in_copy(folder, plan.slurm.n_cpus, *child)
    return build_script(executor, f'{command} {RUN_KEY}="$1"')


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
    code = folder / "code"
    paths = [str(code / "src"), str(code)]
    outer = os.environ.get("PYTHONPATH")
    environment = {
        "PYTHONPATH": os.pathsep.join([*paths, *([outer] if outer else [])]),
        SNAPSHOT_VARIABLE: str(folder / SNAPSHOT_FILE),
        "OMP_NUM_THREADS": str(n_threads),
    }
    variables = [f"{name}={value}" for name, value in environment.items()]
    return shlex.join(["env", *variables, sys.executable, "-m", *module])


def build_script(executor: SlurmExecutor, command: str) -> str:
    """The sbatch script of a submission."""
    return executor._make_submission_file_text(command, "")


def slurm_parameters(name: str, config: SlurmConfig) -> dict[str, Any]:
    """A config in the words of submitit."""
    n_cpus = config.n_cpus * config.n_processes
    optional: Mapping[str, Any] = {
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "gpus_per_node": config.n_gpus or None,
        "mem": None if config.mem_gb is None else f"{math.ceil(config.mem_gb * 1024)}MB",
        "setup": list(config.setup) or None,
    }
    return {
        "job_name": name,
        "time": config.minutes,
        "nodes": config.n_nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": n_cpus,
        "signal_delay_s": config.grace_seconds,
        "wckey": None,
        "stderr_to_stdout": True,
        "srun_args": ["--cpus-per-task", str(n_cpus)],  # which srun has not taken from sbatch since 22.05
        "additional_parameters": {"requeue": True},
        **{key: value for key, value in optional.items() if value is not None},
    }


def _build(name: str, config: SlurmConfig, folder: Path) -> SlurmExecutor:
    from submitit import SlurmExecutor

    executor = SlurmExecutor(folder=folder)
    executor.update_parameters(**slurm_parameters(name, config))
    return executor
