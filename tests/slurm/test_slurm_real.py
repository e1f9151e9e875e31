"""Jobs on a real Slurm, started for these tests: all end as promised, to the same bits.

What takes long is to wait: for starts, for the scheduler, for a time limit, which Slurm counts in minutes.
So all jobs share one Slurm and one checkout, and the job that is to reach its limit is submitted first.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.launcher.conftest import Checkout
from tests.slurm.conftest import LAUNCH, NEEDS_SLURM, ask, launch, queue, status, wait, wait_for_end
from tests.toy_training import rows, same_end

SAME = "training: {n_steps: 60, log_every: 1, checkpoint: {every: 10}}\n"
"""The training of all runs but those of grids, so that one undisturbed run shows how all of them end."""

pytestmark = NEEDS_SLURM


@pytest.fixture(scope="module", autouse=True)
def jobs(cluster: Checkout) -> dict[str, str]:
    """Slurm's numbers of jobs that run while the first tests look at others, by name."""
    numbers = {
        "limited": submit(
            cluster, "limited", "seconds_a_step: 1.0\nslurm: {minutes: 1, grace_seconds: 10}\n"
        ),
        "on_one": submit(cluster, "on_one", "slurm: {n_processes: 2}\n"),
        "on_two": submit(cluster, "on_two", "slurm: {n_nodes: 2, partition: both}\n"),
    }
    (cluster.folder / "eval.yaml").write_text("study: toy\nrun: none\nnote: as it was\n")
    text, training = "slurm: {evaluate: eval.yaml}\n", "training: {checkpoint: {every: 6, keep: null}}\n"
    numbers["examined"] = submit(cluster, "examined", text, training)
    (cluster.folder / "eval.yaml").write_text("study: other\n")
    train = cluster.folder / "apps/toy/train.py"
    train.write_text(train.read_text().replace("about to end", "edited before"))
    numbers["edited"] = submit(cluster, "edited")
    train.write_text(train.read_text().replace("edited before", "edited after"))
    return numbers


@pytest.fixture(scope="module")
def calm(cluster: Checkout) -> Path:
    """The folder of a run without Slurm that nothing disturbed."""
    cluster.write("calm.yaml", f"name: calm\n{SAME}")
    done = cluster.run("apps.toy.train", "calm.yaml")
    assert done.returncode == 0, done.stderr
    return cluster.folder / "runs/calm"


def submit(cluster: Checkout, name: str, text: str = "", training: str = SAME) -> str:
    """Submit a run of this name; Slurm's number of its job."""
    cluster.write(f"{name}.yaml", f"name: {name}\n{training}{text}")
    done = cluster.run(LAUNCH, f"{name}.yaml")
    assert done.returncode == 0 and done.stdout.startswith("Submitted 1 run as job "), done.stderr
    return done.stdout.split(" job ")[1].split(";")[0]


def test_an_array_runs_so_many_at_a_time_and_one_failure_is_its_own(cluster: Checkout) -> None:
    cluster.write(
        "grid.yaml",
        "name: g\nslurm: {array_parallelism: 2}\n"
        "grid: {product: {ending: [well, raise]}, seeds: 3,\n"
        "       exclude: [{ending: raise, training.seed: [0, 1]}]}\n",
    )
    done = cluster.run(LAUNCH, "grid.yaml")
    assert "an array of 4 runs as job" in done.stdout, done.stderr
    job = done.stdout.split(" job ")[1].split(";")[0]
    most = 0
    while tasks := [number for number in queue(cluster, "--states=running,pending") if f"{job}_" in number]:
        running = set(queue(cluster, "--states=running"))
        most = max(most, len(running.intersection(tasks)))
        time.sleep(0.2)
    assert most == 2
    wait_for_end(cluster, job)
    said = status(cluster, "grid.yaml")
    assert "3 finished, 1 failed, of 4" in said
    assert "ending-raise_seed-2: RuntimeError: the toy is broken" in said


def test_a_job_that_is_preempted_and_one_whose_node_fails_end_with_the_same_bits(
    cluster: Checkout, calm: Path
) -> None:
    job = submit(cluster, "moved", "seconds_a_step: 0.3\nslurm: {partition: second}\n")
    run = cluster.folder / "runs/moved"
    wait(cluster, lambda: len(rows(run)) > 2)
    ask(cluster, "sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait(cluster, lambda: launch(run)["n_attempts"] == 2 and not launch(run)["queued"])
    assert "received SIGTERM" in (run / "output.txt").read_text()
    n_rows = len(rows(run))
    wait(cluster, lambda: len(rows(run)) > n_rows + 2)
    ask(cluster, "scontrol", "update", "NodeName=127.0.0.2", "State=DOWN", "Reason=test")
    with suppress(AssertionError):  # where it has reported in the meantime, it is back already
        ask(cluster, "scontrol", "update", "NodeName=127.0.0.2", "State=RESUME")
    wait_for_end(cluster, job)
    assert cluster.result("moved")["status"] == "finished"
    assert launch(run)["n_attempts"] == 3
    assert same_end(run, calm)


def test_a_cancelled_job_stays_cancelled_and_can_be_submitted_again(cluster: Checkout, calm: Path) -> None:
    job = submit(cluster, "cancelled", "seconds_a_step: 0.1\n")
    run = cluster.folder / "runs/cancelled"
    wait(cluster, lambda: len(rows(run)) > 0)
    ask(cluster, "scancel", job)
    wait_for_end(cluster, job)
    assert cluster.result("cancelled")["status"] == "preempted"
    assert (launch(run)["n_attempts"], launch(run)["exit_code"]) == (1, 75)
    wait_for_end(cluster, submit(cluster, "cancelled", "seconds_a_step: 0.1\n"))
    assert cluster.result("cancelled")["status"] == "finished"
    assert same_end(run, calm)


def test_a_job_runs_the_code_as_it_was(cluster: Checkout, jobs: dict[str, str], calm: Path) -> None:
    wait_for_end(cluster, jobs["edited"])
    run = cluster.folder / "runs/edited"
    assert cluster.result("edited")["status"] == "finished"
    assert "edited before" in (run / "output.txt").read_text()
    assert "edited before" in json.loads((run / "environment.json").read_text())["diff"]
    assert same_end(run, calm)


def test_checkpoints_are_examined_by_jobs_of_their_own(cluster: Checkout, jobs: dict[str, str]) -> None:
    wait_for_end(cluster, jobs["examined"])
    run = cluster.folder / "runs/examined"
    examined = json.loads((run / "examinations.json").read_text())
    assert list(examined) == ["step_00000006", "step_00000012"]
    for name, job in examined.items():
        wait_for_end(cluster, job)
        size = (run / "checkpoints" / name / "model.safetensors").stat().st_size
        assert (run / "evaluations" / f"{name}.txt").read_text() == f"{size} as it was\n"


@pytest.mark.parametrize("name", ["on_one", "on_two"])
def test_two_processes_on_one_machine_or_on_two_are_started_by_torchrun(
    cluster: Checkout, jobs: dict[str, str], calm: Path, name: str
) -> None:
    wait_for_end(cluster, jobs[name])
    run = cluster.folder / "runs" / name
    assert cluster.result(name)["status"] == "finished", (run / "output.txt").read_text()
    assert json.loads((run / "environment.json").read_text())["hardware"]["world_size"] == 2
    alone = [row["loss"] for row in rows(calm)]
    assert [row["loss"] for row in rows(run)] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("slurm.partition=urgnt", "expected one of both, first, second, urgent, got 'urgnt'; did you mean"),
        ("slurm.mem_gb=5000", "Slurm refused the job: Memory specification can not be satisfied; "),
    ],
)
def test_what_slurm_refuses_is_told_and_leaves_nothing(cluster: Checkout, key: str, message: str) -> None:
    cluster.write("refused.yaml", "name: refused\n")
    done = cluster.run(LAUNCH, "refused.yaml", key)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (cluster.folder / "runs/refused").exists()


def test_a_job_at_its_time_limit_is_queued_again(cluster: Checkout, jobs: dict[str, str], calm: Path) -> None:
    assert "1 run in runs/limited, each finished or queued" in cluster.run(LAUNCH, "limited.yaml").stdout
    wait_for_end(cluster, jobs["limited"])
    run = cluster.folder / "runs/limited"
    assert cluster.result("limited")["status"] == "finished"
    assert launch(run)["n_attempts"] >= 2
    assert "Stopped after step" in (run / "output.txt").read_text()
    assert same_end(run, calm)


def test_a_grid_larger_than_slurms_largest_array_is_several(cluster: Checkout) -> None:
    cluster.write("large.yaml", "name: large\nslurm: {partition: second}\ngrid: {seeds: 8}\n")
    ask(cluster, "scontrol", "update", "PartitionName=second", "State=DOWN")  # submitted, but never begun
    try:
        done = cluster.run(LAUNCH, "large.yaml")
        first, second = done.stdout.split("8 runs in 2 arrays as jobs ")[1].split(";")[0].split(", ")
        tasks = [number for number in queue(cluster) if "_" in number]
        assert sorted(tasks) == sorted([*(f"{first}_{task}" for task in range(7)), f"{second}_0"])
        assert "8 queued, of 8" in status(cluster, "large.yaml")
        ask(cluster, "scancel", first)
        wait_for_end(cluster, first)
        assert "1 queued, of 8" in (said := status(cluster, "large.yaml"))
        assert f"its Slurm job {first}_6 was cancelled or ended before the run began" in said
        ask(cluster, "scancel", second)
    finally:
        ask(cluster, "scontrol", "update", "PartitionName=second", "State=UP")
