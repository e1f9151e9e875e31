"""Submit a config to Slurm: one job, or for a grid an array, or several where its largest is too small."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from nanollama import studies
from nanollama.config import Config, dump_config, load_config
from nanollama.errors import EXIT_OK, UserError
from nanollama.launcher.attempts import LAUNCH, LAUNCH_CONFIG, Launch, read_launch, write_launch
from nanollama.launcher.command import describe_command, launch
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.starts import check_starts
from nanollama.launcher.local.needs import check_needs
from nanollama.launcher.local.run import check_runs, inspect_all, prepare, take_back_orders
from nanollama.launcher.plan import Plan, read_plan
from nanollama.launcher.settings import SlurmConfig
from nanollama.launcher.slurm.arrays import Array, share_out
from nanollama.launcher.slurm.examinations import EVALUATION, SCRIPT
from nanollama.launcher.slurm.job import JobSpec
from nanollama.launcher.slurm.queue import TIMEOUT_SECONDS, cancel, max_array_size
from nanollama.launcher.slurm.script import EVAL, RUN_KEY, array_script, evaluation_script
from nanollama.launcher.slurm.snapshot import check_place, take_snapshot
from nanollama.launcher.states import ACTIVE, BY_HAND, State, mark_anew, parents_first, write_config
from nanollama.monitor.locks import hold_folder
from nanollama.monitor.successor import cancel_order, is_ordered_anew
from nanollama.wording import count, suggest

SUBMISSIONS, LOCK = "submissions", ".submit.lock"
PROGRAM = "python -m nanollama.launcher"


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``python -m nanollama.launcher [config=]PATH [script=MODULE] [key=value ...]``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return launch(arguments, read_plan, _submit_and_say, _help)


def _submit_and_say(plan: Plan) -> int:
    print(submit(plan))
    return EXIT_OK


def submit(plan: Plan) -> str:
    """Submit what is missing of a plan, all of it or nothing.

    Returns:
        a sentence about what was submitted.

    Raises:
        UserError: there is no Slurm, it refuses the job, a folder cannot be used, another process submits
            what is in it, or what is to be done to a model cannot be.
    """
    for part in (*plan.needs, plan):
        check_slurm(part)
    with ExitStack() as stack:
        for part in (*plan.needs, plan):
            stack.enter_context(submit_alone(part.folder))
        return _submit(plan)


def _submit(plan: Plan) -> str:
    """`submit`, while nobody else does."""
    take_back_orders(plan.runs)
    states = inspect_all(plan)
    check_runs(plan, plan.runs, states)
    missing, held, behind = choose_runs(plan, states)
    left = f" Left out: {count(len(behind), 'run')} after others at work elsewhere." if behind else ""
    if not missing:
        n_runs = count(len(plan.runs) - len(behind), "run")
        return f"Nothing to submit: {n_runs} in {plan.folder}, each finished or queued.{left}"
    check_needs(plan, states)
    check_starts(plan)
    arrays = share_out(plan, missing, held, max_array_size())
    evaluation = evaluation_config(plan)
    prepare(plan)
    needs, needed = choose_needs(plan, states)
    with ExitStack() as stack:
        first = [stack.enter_context(_hand_over(need, [Array(None, {0: need.runs[0]})])) for need in needs]
        needed += [job for submission in first for job in submission.jobs]
        submission = stack.enter_context(_hand_over(plan, arrays, needed, evaluation))
        for handed_over in (*first, submission):
            handed_over.complete()
    said = f"Submitted {_describe(plan, len(missing), submission.jobs)}; its folder is {submission.folder}."
    waits = f" It starts after what it needs, job {', '.join(needed)}." if needed else ""
    return f"{said}{waits}{left}"


@contextmanager
def submit_alone(folder: Path) -> Iterator[None]:
    """Be the only one who submits what is in a folder; nothing of this stays.

    Two who look at the same time would both find the same runs missing, and submit them twice.

    Raises:
        UserError: somebody else is at it, or the folder cannot be written to.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_folder(folder, LOCK, use="being submitted"))
        except OSError as error:
            _let_go(folder)
            raise UserError(
                f"Nothing was submitted, {folder} cannot be written: {error.strerror or error}."
            ) from error
        stack.callback(_let_go, folder)
        yield


def _let_go(folder: Path) -> None:
    with suppress(OSError):  # as a rule something is in the folder
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


@dataclass(frozen=True)
class Submission:
    """What Slurm has taken of a plan; none of its jobs begins before all of it is said to be complete.

    Args:
        plan: what was submitted.
        arrays: its runs.
        folder: of scripts, logs and the copy of the code.
        jobs: Slurm's numbers of the arrays.
    """

    plan: Plan
    arrays: Sequence[Array]
    folder: Path
    jobs: Sequence[str]

    def complete(self) -> None:
        """Let its jobs begin."""
        note_jobs(self.arrays, self.jobs, alone=self.plan.seed_key is None)
        folders = [{str(task): str(run.folder) for task, run in array.runs.items()} for array in self.arrays]
        slurm = self.plan.slurm
        JobSpec(self.plan.module, tuple(folders), slurm.n_nodes, slurm.n_processes).write(self.folder)


@contextmanager
def _hand_over(
    plan: Plan, arrays: Sequence[Array], needed: Sequence[str] = (), evaluation: Config | None = None
) -> Iterator[Submission]:
    """Submit arrays; all that was done is undone if the block fails, as when what comes after is refused.

    Args:
        plan: whose runs they are.
        arrays: of the submission.
        needed: Slurm's numbers of the jobs that they come after.
        evaluation: the config by which checkpoints are examined.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    folder = (plan.folder / SUBMISSIONS / f"{stamp}-{os.getpid()}").absolute()
    runs = [run for array in arrays for run in array.runs.values()]
    jobs: list[str] = []
    with _whole(folder, runs, jobs):
        check_place()
        take_snapshot(folder)
        write_runs(plan, runs)
        if evaluation is not None:
            (folder / EVALUATION).write_text(dump_config(evaluation), encoding="utf-8")
            (folder / SCRIPT).write_text(evaluation_script(plan, folder), encoding="utf-8")
        for index, array in enumerate(arrays):
            script = folder / f"array_{index}.sh"
            script.write_text(array_script(plan, folder, index, array, jobs, needed), encoding="utf-8")
            jobs.append(_sbatch(script))
        yield Submission(plan, arrays, folder, jobs)


def choose_runs(
    plan: Plan, states: Mapping[str, State]
) -> tuple[list[GridRun], dict[str, str], list[GridRun]]:
    """What is missing of a plan and can be submitted.

    Returns:
        the runs; Slurm's numbers of the jobs of those that it has already, by name; runs that cannot be
        submitted yet, since a run that they need or start from is at work outside of Slurm.
    """
    anew = {run.name for run in plan.runs if plan.overwrite or not run.trains}
    finished = {run.name for run in plan.runs if states[run.name].kind == "finished"} - anew
    active = [run for run in plan.runs if states[run.name].kind in ACTIVE]
    held = {run.name: job for run in active if (job := _job_of(run, states))}
    missing = [run for run in plan.runs if run.name not in finished and states[run.name].kind not in ACTIVE]
    if any(states[run.name].kind in ACTIVE and not _job_of(run, states) for run in plan.needed):
        return [], held, missing
    can, cannot = parents_first(missing, {*finished, *held})
    return can, held, cannot


def choose_needs(plan: Plan, states: Mapping[str, State]) -> tuple[list[Plan], list[str]]:
    """What a plan needs that is to be submitted before it, and Slurm's numbers of the jobs it has of it."""
    left = [need for need in plan.needs if states[need.name].kind != "finished"]
    active = [need for need in left if states[need.name].kind in ACTIVE]
    return [need for need in left if need not in active], [_job_of(need.runs[0], states) for need in active]


def _job_of(run: GridRun, states: Mapping[str, State]) -> str:
    """Slurm's number of the job of a run that is queued or running; nothing where it is not Slurm's."""
    launch = read_launch(run.folder)
    return "" if launch is None or states[run.name].reason == BY_HAND else launch.job


def check_slurm(plan: Plan) -> None:
    """Refuse what cannot be submitted from here.

    Raises:
        UserError: no Slurm on this machine, it does not answer, or it has no such partition.
    """
    here = (
        f"run a grid here with `python -m apps.{plan.study}.local_grid CONFIG`, "
        f"a single run with `python -m {plan.module} CONFIG`."
    )
    if any(shutil.which(name) is None for name in ("sbatch", "srun", "sinfo")):
        raise UserError(f"There is no Slurm on this machine (no sbatch found): {here}")
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError("Slurm does not answer: `sinfo` took more than a minute; try again later.") from None
    if done.returncode:
        raise UserError(f"Slurm does not answer ({_errors(done.stderr)}): start it, or {here}")
    known, wanted = sorted(set(done.stdout.split())), plan.slurm.partition
    if wanted is not None and wanted not in known:
        hint = suggest(wanted, known) or "."
        raise UserError(f"slurm.partition: expected one of {', '.join(known)}, got '{wanted}'{hint}")


def evaluation_config(plan: Plan) -> Config | None:
    """The config that ``slurm.evaluate`` names, with the first run as its ``run``; None when it names none.

    Raises:
        UserError: the study examines nothing, the config is wrong, or a run does not keep its checkpoints.
    """
    path, classes = plan.slurm.evaluate, studies.find_study(plan.study).configs
    if path is None:
        return None
    if EVAL not in classes or RUN_KEY not in classes[EVAL].model_fields:
        raise UserError(
            f"slurm.evaluate: the study '{plan.study}' has no `{EVAL}` with a key `{RUN_KEY}`: leave it out."
        )
    for run in plan.runs:
        if run.training is None or run.training.checkpoint.keep is not None:
            raise UserError(
                "slurm.evaluate: expected training.checkpoint.keep=null, since a checkpoint that is removed "
                "before its job begins cannot be examined."
            )
    return load_config(classes[EVAL], [str(path), f"{RUN_KEY}={plan.runs[0].folder}"])


def write_runs(plan: Plan, runs: Sequence[GridRun]) -> None:
    """Write into the folder of each run its config, and that it is queued; what it has left there stays."""
    here = socket.gethostname()
    for run in runs:
        write_config(run)
        if plan.overwrite:
            mark_anew(run)
        before = read_launch(run.folder) or Launch()
        launch = Launch(n_attempts=before.n_attempts, host=here, pid=os.getpid(), queued=True)
        write_launch(run.folder, launch)


def note_jobs(arrays: Sequence[Array], jobs: Sequence[str], alone: bool) -> None:
    """Write into the folder of each run the number of its job, unless it has begun and did so itself.

    Args:
        arrays: of a submission.
        jobs: Slurm's numbers of them.
        alone: the only one is no array but a run without a grid.
    """
    for array, job in zip(arrays, jobs, strict=True):
        for task, run in array.runs.items():
            launch = read_launch(run.folder)
            if launch is not None and launch.queued and not launch.job:
                write_launch(run.folder, replace(launch, job=job if alone else f"{job}_{task}"))


def _describe(plan: Plan, n_runs: int, jobs: Sequence[str]) -> str:
    runs = count(n_runs, "run")
    if len(jobs) > 1:
        return f"{runs} in {len(jobs)} arrays as jobs {', '.join(jobs)}"
    return f"{runs if plan.seed_key is None else f'an array of {runs}'} as job {jobs[0]}"


def _sbatch(script: Path) -> str:
    """Submit a script; Slurm's number of the job."""
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Slurm refused the job: {_errors(done.stderr)}.")
    return done.stdout.strip().partition(";")[0]


@contextmanager
def _whole(folder: Path, runs: Sequence[GridRun], jobs: Sequence[str]) -> Iterator[None]:
    """Make the folder of a submission; if the submission fails, remove what was made and cancel its jobs.

    Raises:
        UserError: for any OSError of the block.
    """
    launches = {run.folder: read_launch(run.folder) for run in runs}
    ordered = {run.folder for run in runs if is_ordered_anew(run.folder)}
    try:
        folder.mkdir(parents=True)
        yield
    except BaseException as error:
        cancel(jobs)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
        for run_folder, launch in launches.items():
            if run_folder not in ordered:
                cancel_order(run_folder)
            _restore(run_folder, launch)
        with suppress(OSError):
            folder.parents[1].rmdir()
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
    about = "Submit a config to Slurm, a grid as one array; what is finished or queued is left out."
    usage = f"{PROGRAM} [config=]PATH [script=MODULE] [key=value ...]"
    options = {"script=MODULE": "what to run; default apps.<study>.train"}
    return describe_command(usage, about, options, {"slurm": SlurmConfig})
