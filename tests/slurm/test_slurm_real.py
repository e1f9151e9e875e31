"""Jobs on a real Slurm of one node, started for these tests: all end as promised, to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launcher.conftest import Checkout, checkout
from tests.toy_training import rows, same_end

__all__ = ["checkout"]

START = Path(__file__).parent / "start_slurm.sh"
LAUNCH = "nanollama.launcher"
PATIENCE_SECONDS = 900

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in ("slurmctld", "slurmd", "munged", "sbatch")),
        reason="no Slurm here: it needs the packages slurm-wlm and munge",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="starting a Slurm needs root"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of the configuration of a running Slurm."""
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents):  # munge's own user must reach its socket
        if parent.stat().st_uid == 0 and parent != Path(parent.anchor):
            parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(["bash", str(START), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield done.stdout.strip()
    subprocess.run(["bash", str(START), "--stop", str(folder)], check=True)


@pytest.fixture
def cluster(checkout: Checkout, slurm: str) -> Checkout:
    """A checkout under git on a machine with Slurm."""
    checkout.environment["SLURM_CONF"] = slurm
    (checkout.folder / ".gitignore").write_text("runs/\n")
    for command in ("git init -q .", "git add -A", "git -c user.name=n -c user.email=e commit -q -m first"):
        subprocess.run(command.split(), cwd=checkout.folder, check=True)
    return checkout


def ask(cluster: Checkout, *command: str) -> str:
    """Output of a command of Slurm."""
    environment = {**os.environ, **cluster.environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def wait(cluster: Checkout, ready: Callable[[], bool]) -> None:
    """Until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        assert time.monotonic() < end, ask(cluster, "squeue")
        time.sleep(0.3)


def wait_for_end(cluster: Checkout) -> None:
    """Until Slurm has nothing more to do."""
    wait(cluster, lambda: not ask(cluster, "squeue", "--noheader"))


def calm(cluster: Checkout, run: str) -> Path:
    """The folder of an undisturbed run of the config of another, without Slurm."""
    config = f"runs/{run}/launch.yaml"
    done = cluster.run("apps.toy.train", config, "run_dir=runs/calm", "seconds_a_step=0")
    assert done.returncode == 0, done.stderr
    return cluster.folder / "runs/calm"


def job_number(said: str) -> str:
    """The number of a job in the sentence about its submission."""
    return said.split(" job ")[1].split(";")[0]


def n_attempts(run: Path) -> int:
    n: int = json.loads((run / "launch.json").read_text())["n_attempts"]
    return n


def test_a_job_runs_the_code_as_it_was(cluster: Checkout) -> None:
    cluster.write("job.yaml", "name: job\n")
    train = cluster.folder / "apps/toy/train.py"
    train.write_text(train.read_text().replace("about to end", "edited before"))
    done = cluster.run(LAUNCH, "job.yaml")
    train.write_text(train.read_text().replace("edited before", "edited after"))
    assert done.returncode == 0 and done.stdout.startswith("Submitted 1 run as job "), done.stderr
    assert "each is finished or queued" in cluster.run(LAUNCH, "job.yaml").stdout
    wait_for_end(cluster)
    run = cluster.folder / "runs/job"
    assert cluster.result("job")["status"] == "finished"
    assert "edited before" in (run / "output.txt").read_text()
    assert "edited before" in json.loads((run / "environment.json").read_text())["diff"]
    assert same_end(run, calm(cluster, "job"))


def test_an_array_runs_so_many_at_a_time_and_one_failure_is_its_own(cluster: Checkout) -> None:
    cluster.write(
        "grid.yaml",
        "name: g\nseconds_a_step: 0.2\nslurm: {array_parallelism: 2}\n"
        "grid: {product: {ending: [well, raise]}, seeds: 5,\n"
        "       exclude: [{ending: raise, training.seed: [0, 1, 2, 3]}]}\n",
    )
    done = cluster.run(LAUNCH, "grid.yaml")
    assert "an array of 6 runs" in done.stdout, done.stderr
    most = 0
    while ask(cluster, "squeue", "--noheader"):
        running = ask(cluster, "squeue", "--noheader", "--array", "--states=running", "--format=%i")
        most = max(most, len(running.split()))
        time.sleep(0.5)
    assert most == 2
    status = cluster.run("nanollama", "grid", "status", "grid.yaml").stdout
    assert "5 finished, 1 failed, of 6" in status
    assert "ending-raise_seed-4: RuntimeError: the toy is broken" in status


def test_a_preempted_job_is_queued_again_and_ends_with_the_same_bits(cluster: Checkout) -> None:
    cluster.write("job.yaml", "name: job\nseconds_a_step: 0.5\ntraining: {n_steps: 40}\n")
    assert cluster.run(LAUNCH, "job.yaml").returncode == 0
    run = cluster.folder / "runs/job"
    wait(cluster, lambda: len(rows(run)) > 2)
    ask(cluster, "sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for_end(cluster)
    assert cluster.result("job")["status"] == "finished"
    assert n_attempts(run) == 2
    assert same_end(run, calm(cluster, "job"))


def test_a_job_at_its_time_limit_is_queued_again(cluster: Checkout) -> None:
    cluster.write(
        "job.yaml",
        "name: job\nseconds_a_step: 0.5\ntraining: {n_steps: 240}\nslurm: {minutes: 30, grace_seconds: 20}\n",
    )
    job = job_number(cluster.run(LAUNCH, "job.yaml").stdout)
    run = cluster.folder / "runs/job"
    wait(cluster, lambda: len(rows(run)) > 2)
    minutes, seconds = map(int, ask(cluster, "squeue", "--noheader", "--format=%M").split(":"))
    ask(cluster, "scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 1 + (seconds > 30)}")
    wait(cluster, lambda: n_attempts(run) == 2)  # a start may take longer than that limit
    ask(cluster, "scontrol", "update", f"JobId={job}", "TimeLimit=30")
    wait_for_end(cluster)
    assert cluster.result("job")["status"] == "finished"
    assert n_attempts(run) == 2
    assert "Stopped after step" in (run / "output.txt").read_text()
    assert same_end(run, calm(cluster, "job"))


def test_a_cancelled_job_stays_cancelled_and_can_be_submitted_again(cluster: Checkout) -> None:
    cluster.write("job.yaml", "name: job\nseconds_a_step: 0.5\ntraining: {n_steps: 60}\n")
    done = cluster.run(LAUNCH, "job.yaml")
    run = cluster.folder / "runs/job"
    wait(cluster, lambda: len(rows(run)) > 0)
    ask(cluster, "scancel", job_number(done.stdout))
    wait_for_end(cluster)
    assert cluster.result("job")["status"] == "preempted"
    assert n_attempts(run) == 1
    assert cluster.run(LAUNCH, "job.yaml").stdout.startswith("Submitted")
    wait_for_end(cluster)
    assert cluster.result("job")["status"] == "finished"


def test_two_processes_are_started_by_torchrun(cluster: Checkout) -> None:
    cluster.write("job.yaml", "name: job\nslurm: {n_processes: 2}\n")
    assert cluster.run(LAUNCH, "job.yaml").returncode == 0
    wait_for_end(cluster)
    run = cluster.folder / "runs/job"
    assert cluster.result("job")["status"] == "finished", (run / "output.txt").read_text()
    assert json.loads((run / "environment.json").read_text())["hardware"]["world_size"] == 2
    alone = rows(calm(cluster, "job"))
    assert [row["loss"] for row in rows(run)] == pytest.approx([row["loss"] for row in alone], rel=1e-5)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("slurm.partition=urgnt", "expected one of normal, urgent, got 'urgnt'; did you mean 'urgent'?"),
        ("slurm.mem_gb=5000", "Slurm refused the job: Memory specification can not be satisfied; "),
    ],
)
def test_what_slurm_refuses_is_told_and_leaves_nothing(cluster: Checkout, key: str, message: str) -> None:
    cluster.write("job.yaml", "name: job\n")
    done = cluster.run(LAUNCH, "job.yaml", key)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (cluster.folder / "runs/job").exists()
