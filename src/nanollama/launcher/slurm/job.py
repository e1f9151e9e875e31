"""What a Slurm job runs on each of its nodes: ``... -m nanollama.launcher.slurm.job SUBMISSION ARRAY``.

It starts the run (with several processes, through torchrun), passes on requests to stop, and decides what
the end means. A run that was stopped, by the time limit, a preemption or its own ``max_minutes``, has saved
its state and is put back into the queue; the next job goes on with it, to the same bits.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from nanollama.errors import EXIT_FAILED, EXIT_OK, EXIT_PREEMPTED
from nanollama.launcher.attempts import (
    OUTPUT,
    Launch,
    begin_attempt,
    failure_reason,
    run_arguments,
    saved_step,
    was_preempted,
    write_launch,
)
from nanollama.launcher.local.forkserver import redirect
from nanollama.launcher.slurm.examinations import Examinations
from nanollama.monitor.files import write_atomically

JOB = "job.json"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
MAX_STALLED = 5
"""Attempts in a row, stopped before they could save a step more: then the time limit is too short."""
SECONDS_BETWEEN_LOOKS = 5.0
PATIENCE_SECONDS, SECONDS_BETWEEN_TRIES = 600.0, 0.2
PATIENCE_OF_TORCHRUN = 7 * 24 * 3600
"""Seconds; `slurm.grace_seconds` is what ends the waiting, as Slurm then kills the job."""


@dataclass(frozen=True)
class JobSpec:
    """What the jobs of a submission run, ``job.json``; written last, when Slurm has taken all of them.

    Args:
        module: has the ``main(argv)`` that a run is.
        arrays: for each array of the submission, the folders of its runs by the number of their task.
        n_nodes: machines of a run.
        n_processes: processes on each.
    """

    module: str
    arrays: tuple[Mapping[str, str], ...]
    n_nodes: int = 1
    n_processes: int = 1

    def write(self, folder: Path) -> None:
        """Write it into the folder of a submission."""
        write_atomically(folder / JOB, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def read(folder: Path) -> JobSpec:
        """Read it from there."""
        return JobSpec(**json.loads((folder / JOB).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Place:
    """Where in Slurm this process is, as Slurm's environment variables say.

    Args:
        job: number of the job, that of its task in an array included.
        task: number of the run within the array.
        node: number of this machine within the job.
        nodes: Slurm's short form of the machines' names.
    """

    job: str
    task: int
    node: int
    nodes: str

    @staticmethod
    def here() -> Place:
        """The place of this process."""
        environment = os.environ
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else environment["SLURM_JOB_ID"]
        return Place(
            job, int(task or 0), int(environment.get("SLURM_NODEID", 0)), environment["SLURM_JOB_NODELIST"]
        )


def main(argv: Sequence[str]) -> int:
    """Run one run of a submission to its end or next stop; the exit code."""
    requests = Requests()
    if not is_whole(Path(argv[0]), requests):
        return EXIT_FAILED
    spec, place = JobSpec.read(Path(argv[0])), Place.here()
    folder = Path(spec.arrays[int(argv[1])][str(place.task)])
    redirect(str(folder / OUTPUT) if place.node == 0 else str(folder / f"output.{place.node}.txt"))
    before = saved_step(folder)
    launch = begin_attempt(folder, os.getpid(), place.job) if place.node == 0 else None
    if launch is None:
        return requests.run(child_command(spec, place, folder))
    examinations = Examinations(Path(argv[0]), folder)
    code = requests.run(child_command(spec, place, folder), examinations.submit_new)
    n_steps = saved_step(folder) - before
    return conclude(folder, launch, place.job, code, asked=requests.heard, n_steps=n_steps)


def is_whole(submission: Path, requests: Requests) -> bool:
    """Wait until all jobs of a submission are with Slurm; False if they will not be.

    A job may start before the next array is submitted, and be cancelled because that one is refused.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not (submission / JOB).exists():
        if requests.heard or not submission.exists() or time.monotonic() > end:
            print(f"Not begun: the submission {submission} is not whole.", flush=True)
            return False
        time.sleep(SECONDS_BETWEEN_TRIES)
    return True


def child_command(spec: JobSpec, place: Place, folder: Path) -> list[str]:
    """The command of the run on this machine."""
    run = ["-m", "nanollama.launcher.slurm.child", spec.module, *run_arguments(folder)]
    if spec.n_nodes * spec.n_processes == 1:
        return [sys.executable, *run]
    where = ["--standalone"] if spec.n_nodes == 1 else _meeting_point(spec, place)
    torchrun = ["-m", "torch.distributed.run", *where, "--nproc-per-node", str(spec.n_processes)]
    return [sys.executable, *torchrun, *run]


def _meeting_point(spec: JobSpec, place: Place) -> list[str]:
    """Options by which torchrun finds the other machines: the first listens, on a port of this job's own."""
    names = subprocess.run(
        ["scontrol", "show", "hostnames", place.nodes], capture_output=True, text=True, check=True
    ).stdout.split()
    port = 20_000 + sum(int(number) for number in place.job.split("_")) % 10_000
    return [
        *("--nnodes", str(spec.n_nodes)),
        *("--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", f"{names[0]}:{port}"),
        *("--rdzv-id", place.job),
    ]


class Requests:
    """Requests to stop: heard from the moment this is made, and passed on to the run.

    Torchrun, which would kill its processes 30 seconds later, leaves the time to Slurm.
    """

    def __init__(self) -> None:
        self.heard = False
        self._environment = {**os.environ, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(PATIENCE_OF_TORCHRUN)}
        self._child: subprocess.Popen[bytes] | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._hear)

    def run(self, command: Sequence[str], look: Callable[[], None] = lambda: None) -> int:
        """Run a command to its end, looking after something meanwhile and once more after it.

        Returns:
            its exit code, negative for a signal.
        """
        if self.heard:
            return EXIT_PREEMPTED
        self._child = subprocess.Popen(command, env=self._environment, preexec_fn=_ignore_user_signals)
        if self.heard:  # while it was started
            self._child.terminate()
        code = None
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = self._child.wait(SECONDS_BETWEEN_LOOKS)
            look()
        return code

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        if self._child is not None:
            self._child.terminate()


def _ignore_user_signals() -> None:
    """Slurm may signal every process of a job; until training listens, only the passed-on SIGTERM counts."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def conclude(folder: Path, launch: Launch, job: str, code: int, *, asked: bool, n_steps: int) -> int:
    """Write down how an attempt ended, and queue the run again if it was stopped.

    Args:
        folder: of the run.
        launch: the attempt.
        job: Slurm's number of this job.
        code: exit code of the run.
        asked: was it asked to stop?
        n_steps: that this attempt has added to what is saved.

    Returns:
        the exit code of the job.
    """
    if code == EXIT_OK and not was_preempted(folder):
        write_launch(folder, replace(launch, exit_code=EXIT_OK))
        return EXIT_OK
    if not (asked or code == EXIT_PREEMPTED or was_preempted(folder)):
        write_launch(folder, replace(launch, exit_code=code, reason=failure_reason(folder, code)))
        return code if code > 0 else EXIT_FAILED
    stalled = launch.n_stalled + 1 if n_steps <= 0 else 0
    if stalled >= MAX_STALLED:
        reason = f"stopped {stalled} times before it could save a step: give it more `slurm.minutes`"
        write_launch(folder, replace(launch, exit_code=EXIT_FAILED, reason=reason))
        return EXIT_FAILED
    if not is_running(job):
        write_launch(folder, replace(launch, exit_code=EXIT_PREEMPTED))
        return EXIT_PREEMPTED
    write_launch(folder, replace(launch, queued=True, n_stalled=stalled))
    requeue(job)
    return EXIT_PREEMPTED


def is_running(job: str) -> bool:
    """Is this job still one that runs? Not if it was cancelled, or if Slurm is queueing it again itself."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
    return "JobState=RUNNING" in done.stdout


def requeue(job: str) -> None:
    """Put this job back into the queue."""
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    if done.returncode:
        print(f"scontrol requeue {job}: {done.stderr.strip()}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
