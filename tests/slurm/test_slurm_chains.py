"""Runs that start from others, on a real Slurm: requeued, failed, submitted while the first are queued."""

from __future__ import annotations

import re

import pytest

from tests.launcher.conftest import Checkout
from tests.slurm.conftest import LAUNCH, NEEDS_SLURM, ask, launch, queue, status, wait, wait_for_end
from tests.toy_training import rows, same_end

pytestmark = NEEDS_SLURM

CHAIN = """\
training: {n_steps: 30, log_every: 1, checkpoint: {every: 10}}
slurm: {partition: second}
grid:
  arms:
    a: {training.max_minutes: 0.04, training.n_steps: 8, seconds_a_step: 0.5}
    b: {starts_from: a, seconds_a_step: 0.3}
    c: {starts_from: {arm: b, but: [norm.*]}}
  seeds: 2
"""
UNDISTURBED = re.sub(r"training.max_minutes: [^,]+, |, seconds_a_step: [^,}]+", "", CHAIN)
NAMES = [f"arm-{arm}_seed-{seed}" for seed in (0, 1) for arm in "abc"]


def submit(cluster: Checkout, config: str, *keys: str) -> list[str]:
    """Submit a grid; Slurm's numbers of its arrays."""
    done = cluster.run(LAUNCH, config, *keys)
    assert done.returncode == 0 and done.stdout.startswith("Submitted "), done.stderr
    return done.stdout.split(" as job")[1].split(";")[0].removeprefix("s").strip().split(", ")


@pytest.fixture(scope="module")
def calm(cluster: Checkout) -> None:
    """The chain as it ends here, without Slurm, undisturbed and as fast as it can."""
    cluster.write("calm.yaml", f"name: calm\n{UNDISTURBED}")
    done = cluster.run("apps.toy.local_grid", "calm.yaml", "local.n_jobs=2")
    assert done.returncode == 0, done.stderr


def check_ends(cluster: Checkout, grid: str) -> None:
    """All runs of a grid end as in the calm one."""
    assert "6 finished, of 6" in status(cluster, f"{grid}.yaml")
    for name in NAMES:
        assert same_end(cluster.folder / "runs" / grid / name, cluster.folder / "runs/calm" / name)


def test_a_chain_whose_runs_stop_themselves_or_are_preempted(cluster: Checkout, calm: None) -> None:
    cluster.write("chain.yaml", f"name: chain\n{CHAIN}")
    jobs = submit(cluster, "chain.yaml")
    assert len(jobs) == 3
    folder = cluster.folder / "runs/chain"
    assert "queued    arm-b_seed-0: for arm-a_seed-0\n" in status(cluster, "chain.yaml")
    parent = folder / "arm-b_seed-0"
    wait(cluster, lambda: len(rows(parent)) > 2)
    ask(cluster, "sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait(cluster, lambda: launch(parent)["n_attempts"] == 2 and not launch(parent)["queued"])
    assert {f"{jobs[2]}_0", f"{jobs[2]}_1"} <= {*queue(cluster, "--states=pending")}
    for job in jobs:
        wait_for_end(cluster, job)
    check_ends(cluster, "chain")
    attempts = {name: launch(folder / name)["n_attempts"] for name in NAMES}
    assert attempts["arm-a_seed-0"] > 1 and attempts["arm-a_seed-1"] > 1, "they stopped themselves"
    assert attempts["arm-b_seed-0"] == 2 and attempts["arm-c_seed-0"] == attempts["arm-c_seed-1"] == 1
    for seed in (0, 1):
        for first, then in ("ab", "bc"):
            ended = (folder / f"arm-{first}_seed-{seed}/result.json").stat().st_mtime
            began = (folder / f"arm-{then}_seed-{seed}/config.yaml").stat().st_mtime
            assert ended <= began


def test_what_starts_from_runs_that_slurm_has_already(cluster: Checkout, calm: None) -> None:
    cluster.write("late.yaml", f"name: late\n{UNDISTURBED}")
    ask(cluster, "scontrol", "update", "PartitionName=second", "State=DOWN")  # nothing begins meanwhile
    try:
        first = submit(cluster, "late.yaml", "grid.exclude=[{arm: [b, c]}]")
        jobs = submit(cluster, "late.yaml")
        assert (len(first), len(jobs)) == (1, 2)
        wanted = ask(cluster, "scontrol", "--oneliner", "show", "job", f"{jobs[0]}_1")
        assert f"Dependency=aftercorr:{first[0]}_" in wanted
    finally:
        ask(cluster, "scontrol", "update", "PartitionName=second", "State=UP")
    for job in (*first, *jobs):
        wait_for_end(cluster, job)
    check_ends(cluster, "late")


@pytest.fixture(scope="module")
def broken(cluster: Checkout) -> dict[str, str]:
    """What is said of two grids whose first runs fail; then these are mended, and both submitted again."""
    text = (
        "grid: {arms: {a: {}, b: {starts_from: a}, c: {starts_from: b}}, product: {ending: [well, raise]},\n"
        "       exclude: [{arm: c, ending: well}]}\n"
    )
    cluster.write("failing.yaml", f"name: failing\n{text}")
    cluster.write("first.yaml", "name: first\nending: raise\nslurm: {partition: second}\n")
    load = "interventions: [{implementation: load, run: runs/first}]"
    need = "{config: first.yaml, script: apps.toy.first.base}"
    cluster.write("needy.yaml", f"name: needy\n{load}\ngrid: {{seeds: 2, needs: [{need}]}}\n")
    configs = ("failing.yaml", "needy.yaml")
    for job in [job for config in configs for job in submit(cluster, config)]:
        wait_for_end(cluster, job)
    said = {config: status(cluster, config) for config in configs}
    train = cluster.folder / "apps/toy/train.py"
    as_it_was = train.read_text()
    train.write_text(as_it_was.replace('raise RuntimeError("the toy is broken")', "pass"))
    try:
        jobs = [job for config in configs for job in submit(cluster, config)]
    finally:
        train.write_text(as_it_was)
    for job in jobs:
        wait_for_end(cluster, job)
    return said


def test_a_run_that_fails_fails_those_after_it_alone(cluster: Checkout, broken: dict[str, str]) -> None:
    said = broken["failing.yaml"]
    assert "2 finished, 3 failed, of 5" in said
    assert "failed    arm-a_ending-raise: RuntimeError: the toy is broken\n" in said
    for child, parent in ("ba", "cb"):
        reason = f"not run: it starts from arm-{parent}_ending-raise, which has failed"
        assert f"failed    arm-{child}_ending-raise: {reason}\n" in said
    assert "5 finished, of 5" in status(cluster, "failing.yaml")


def test_a_grid_waits_for_what_it_needs(cluster: Checkout, broken: dict[str, str]) -> None:
    said = broken["needy.yaml"]
    assert "runs/needy: 2 failed, of 2\nfailed    first: RuntimeError: the toy is broken\n" in said
    assert "failed    seed-0: not run: it starts from first, which has failed\n" in said
    assert "2 finished, of 2" in status(cluster, "needy.yaml")
    runs = cluster.folder / "runs"
    began = [(runs / f"needy/seed-{seed}/config.yaml").stat().st_mtime for seed in (0, 1)]
    assert (runs / "first/left.txt").stat().st_mtime <= min(began)
