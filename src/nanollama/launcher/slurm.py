"""Submit a config to Slurm: one job, or one array for a grid.

Built on submitit, which checks the parameters, writes the sbatch script and submits it. Its usual jobs are
pickled functions: opaque, and tied to the state of the code. Ours is a command, ``python -m
nanollama.launcher.job SUBMISSION``, so the two methods of its executor that take a command are called
directly; the folder of the submission holds all there is to it, as text.
"""

from __future__ import annotations

import importlib.util
import io
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanollama.entrypoint import DRY_RUN_FLAG, HELP_FLAGS, guard
from nanollama.errors import EXIT_OK, MissingExtraError, UserError
from nanollama.launcher.attempts import LAUNCH, LAUNCH_CONFIG, Launch, read_launch, write_launch
from nanollama.launcher.grid import GridRun
from nanollama.launcher.job import JobSpec
from nanollama.launcher.local import prepare
from nanollama.launcher.plan import Plan, read_plan
from nanollama.launcher.settings import SlurmConfig
from nanollama.launcher.snapshot import take_snapshot
from nanollama.launcher.states import check_folder, forget, inspect, write_config
from nanollama.monitor.environment import SNAPSHOT_FILE, SNAPSHOT_VARIABLE
from nanollama.wording import suggest

if TYPE_CHECKING:
    from submitit import SlurmExecutor

SUBMISSIONS = "submissions"
PROGRAM = "python -m nanollama.launcher"
TIMEOUT_SECONDS = 60


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``python -m nanollama.launcher [config=]PATH [script=MODULE] [key=value ...]``."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        if HELP_FLAGS.intersection(arguments):
            print(_help(), end="")
            return EXIT_OK
        if not arguments:
            raise UserError(f"usage: {PROGRAM} [config=]PATH [script=MODULE] [key=value ...] [--dry-run]")
        plan = read_plan([item for item in arguments if item != DRY_RUN_FLAG])
        if DRY_RUN_FLAG in arguments:
            from nanollama.launcher.estimate import describe_plan

            print("\n".join(describe_plan(plan)))
            return EXIT_OK
        print(submit(plan))
        return EXIT_OK

    return guard(work)


def submit(plan: Plan) -> str:
    """Submit what is missing of a plan, all of it or nothing.

    Returns:
        a sentence about what was submitted.

    Raises:
        UserError: there is no Slurm, it refuses the job, or a folder cannot be used.
    """
    check_slurm(plan)
    for run in plan.runs:
        check_folder(run)
    states = {run.name: inspect(run) for run in plan.runs}
    active = [run.name for run in plan.runs if states[run.name].kind in ("running", "queued")]
    if active and plan.overwrite:
        raise UserError(f"The run {active[0]} is {states[active[0]].kind}: cancel it before overwrite=true.")
    done = ("running", "queued") if plan.overwrite else ("finished", "running", "queued")
    missing = [run for run in plan.runs if states[run.name].kind not in done]
    if not missing:
        return f"Nothing to submit: of {len(plan.runs)} runs in {plan.folder}, each is finished or queued."
    prepare(plan)
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    folder = (plan.folder / SUBMISSIONS / f"{stamp}-{os.getpid()}").absolute()
    with _whole(folder, missing):
        take_snapshot(folder)
        write_runs(plan, missing, folder)
        job = _sbatch(build_executor(plan, folder, len(missing)), build_command(folder, plan.slurm.n_cpus))
    kind = f"an array of {len(missing)} runs" if plan.seed_key is not None else "1 run"
    return f"Submitted {kind} as job {job}; its folder is {folder}."


def check_slurm(plan: Plan) -> None:
    """Refuse what cannot be submitted from here.

    Raises:
        UserError: no Slurm on this machine, it does not answer, or it has no such partition.
        MissingExtraError: submitit is not installed.
    """
    if any(shutil.which(name) is None for name in ("sbatch", "srun", "sinfo")):
        study = plan.module.split(".")[1]
        raise UserError(
            "There is no Slurm on this machine (no sbatch found): run a grid here with "
            f"`python -m apps.{study}.local_grid CONFIG`, a single run with `python -m {plan.module} CONFIG`."
        )
    if importlib.util.find_spec("submitit") is None:
        raise MissingExtraError("submitit", "slurm")
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError("Slurm does not answer: `sinfo` took more than a minute; try again later.") from None
    if done.returncode:
        raise UserError(f"Slurm does not answer: {_errors(done.stderr)}.")
    known, wanted = sorted(set(done.stdout.split())), plan.slurm.partition
    if wanted is not None and wanted not in known:
        hint = suggest(wanted, known) or "."
        raise UserError(f"slurm.partition: expected one of {', '.join(known)}, got '{wanted}'{hint}")


def write_runs(plan: Plan, runs: Sequence[GridRun], folder: Path) -> None:
    """Write what the jobs read: the config of each run, and the list of runs."""
    for run in runs:
        if plan.overwrite:
            forget(run.folder)
        write_config(run)
        before = read_launch(run.folder) or Launch()
        write_launch(run.folder, Launch(n_attempts=before.n_attempts, queued=True))
    folders = tuple(str(run.folder) for run in runs)
    JobSpec(plan.module, folders, plan.slurm.n_nodes, plan.slurm.n_processes).write(folder)


def build_command(folder: Path, n_threads: int = 1) -> str:
    """The shell command of a submission's jobs, each process of which has so many threads."""
    code = folder / "code"
    paths = [str(code / "src"), str(code)]
    outer = os.environ.get("PYTHONPATH")
    environment = {
        "PYTHONPATH": os.pathsep.join([*paths, *([outer] if outer else [])]),
        SNAPSHOT_VARIABLE: str(folder / SNAPSHOT_FILE),
        "OMP_NUM_THREADS": str(n_threads),
    }
    variables = [f"{name}={value}" for name, value in environment.items()]
    return shlex.join(["env", *variables, sys.executable, "-m", "nanollama.launcher.job", str(folder)])


def build_executor(plan: Plan, folder: Path, n_runs: int) -> SlurmExecutor:
    """Submitit's executor with the parameters of a plan; an array when it has a grid."""
    from submitit import SlurmExecutor

    executor = SlurmExecutor(folder=folder)
    executor.update_parameters(**slurm_parameters(plan.name, plan.slurm))
    if plan.seed_key is not None:
        executor.parameters["map_count"] = n_runs  # as submitit itself sets it for arrays of pickles
    return executor


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
        "array_parallelism": config.array_parallelism,
        "wckey": None,
        "stderr_to_stdout": True,
        "srun_args": ["--cpus-per-task", str(n_cpus)],  # which srun has not taken from sbatch since 22.05
        "additional_parameters": {"requeue": True},
        **{key: value for key, value in optional.items() if value is not None},
    }


def _sbatch(executor: SlurmExecutor, command: str) -> str:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    said = io.StringIO()
    try:
        with redirect_stderr(said):  # submitit passes on what sbatch says; it is told once, below
            return str(executor._submit_command(command).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"Slurm refused the job: {_errors(said.getvalue() or str(error))}.") from None


@contextmanager
def _whole(folder: Path, runs: Sequence[GridRun]) -> Iterator[None]:
    """Make the folder of a submission, and remove what was made if the submission fails.

    Raises:
        UserError: for any OSError of the block.
    """
    launches = {run.folder: read_launch(run.folder) for run in runs}
    try:
        folder.mkdir(parents=True)
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
        for run_folder, launch in launches.items():
            _restore(run_folder, launch)
        if isinstance(error, OSError):
            raise UserError(
                f"Nothing was submitted, {folder} cannot be written: {error.strerror or error}."
            ) from error
        raise


def _restore(folder: Path, launch: Launch | None) -> None:
    try:
        if launch is not None:
            write_launch(folder, launch)
            return
        (folder / LAUNCH).unlink(missing_ok=True)
        (folder / LAUNCH_CONFIG).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:  # it holds more than this, or could not be written to in the first place
        return


def _errors(text: str) -> str:
    """What a command of Slurm complains of, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.partition("error: ")[2] for line in lines if "error: " in line]
    return "; ".join(errors or lines[-1:] or ["no reason was given"])


def _help() -> str:
    from nanollama.config_keys import describe_keys

    lines = [
        f"usage: {PROGRAM} [config=]PATH [script=MODULE] [key=value ...] [--dry-run] [--help]",
        "",
        "Submit a config to Slurm, a grid as one array; what is finished or queued is left out.",
        "",
        "  script=MODULE  what to run; default apps.<study>.train",
        "  --dry-run      list the runs and stop",
        "",
        "keys, beside those of the study's runs and `grid`:",
    ]
    for info in describe_keys(SlurmConfig):
        lines += [
            f"  slurm.{info.key}: {info.expected} (default {info.default})",
            f"      {info.description}",
        ]
    return "\n".join(lines) + "\n"
