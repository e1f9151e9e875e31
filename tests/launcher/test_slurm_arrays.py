"""How runs become Slurm's arrays, without one: those that start from others have their tasks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.launcher.attempts import Launch, begin_attempt, read_launch, write_launch
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.launcher.slurm import script as slurm_script
from nanollama.launcher.slurm import submit as slurm
from nanollama.launcher.slurm.arrays import Array, share_out
from tests.launcher.test_slurm_script import ROOT, accept_all, plan_of


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the root of this repository."""
    monkeypatch.chdir(ROOT)


ARMS = "grid={arms: {a: {}, b: {starts_from: a}, c: {starts_from: b}, d: {starts_from: b, data.n_people: 4}}"


def tasks(arrays: list[Array]) -> list[tuple[int | str | None, dict[int, str]]]:
    """Of each array, what it comes after, and its runs by their tasks."""
    named = ({task: run.name.removeprefix("arm-") for task, run in array.runs.items()} for array in arrays)
    return [(array.after, runs) for array, runs in zip(arrays, named, strict=True)]


def chosen(plan: Plan, *names: str) -> list[GridRun]:
    return [run for run in plan.runs if run.name.removeprefix("arm-") in names]


def test_what_starts_from_another_run_has_its_task(fake_slurm: Path) -> None:
    plan = plan_of(ARMS + ", seeds: 4}", "slurm.array_parallelism=12")
    arrays = share_out(plan, plan.runs, {}, 3)
    assert tasks(arrays) == [
        (None, {seed: f"a_seed-{seed}" for seed in range(3)}),
        *((0 if arm == "b" else 1, {s: f"{arm}_seed-{s}" for s in range(3)}) for arm in "bcd"),
        (None, {0: "a_seed-3"}),
        (4, {0: "b_seed-3"}),
        (5, {0: "c_seed-3"}),
        (5, {0: "d_seed-3"}),
    ]
    assert [array.parallelism for array in arrays] == [1, 1, 1, 1, 2, 2, 2, 2]
    scripts = [
        slurm_script.array_script(plan, Path("/s"), index, array, ["11", "12"])
        for index, array in enumerate(arrays[:3])
    ]
    assert "depend" not in scripts[0]
    for script, job_number in zip(scripts[1:], ("11", "12"), strict=True):
        assert f"#SBATCH --dependency=aftercorr:{job_number}\n" in script
        assert "#SBATCH --array=0-2%1\n" in script and "#SBATCH --kill-on-invalid-dep=yes\n" in script
    with pytest.raises(UserError, match=r"at least 8, got 7: these 16 runs are 8 arrays"):
        share_out(plan_of(ARMS + ", seeds: 4}", "slurm.array_parallelism=7"), plan.runs, {}, 3)


def test_what_starts_from_finished_or_submitted_runs_is_shared_out_alike(fake_slurm: Path) -> None:
    plan = plan_of(ARMS + ", seeds: 4}")
    missing = chosen(plan, "b_seed-0", "b_seed-1", "b_seed-3", "c_seed-1", "c_seed-2", "c_seed-3")
    held = {"arm-a_seed-1": "7_5", "arm-a_seed-3": "7_2", "arm-b_seed-2": "8_6"}
    arrays = share_out(plan, missing, held, 1000)
    assert tasks(arrays) == [
        (None, {0: "b_seed-0"}),
        ("7", {5: "b_seed-1", 2: "b_seed-3"}),
        (1, {5: "c_seed-1", 2: "c_seed-3"}),
        ("8", {6: "c_seed-2"}),
    ]
    assert [array.tasks.partition("%")[0] for array in arrays] == ["0", "2,5", "2,5", "6"]
    assert arrays[1].dependency([]) == "aftercorr:7"
    assert Array(None, dict.fromkeys((0, 1, 2, 5, 8, 9), plan.runs[0]), 4).tasks == "0-2,5,8-9%4"


def test_an_arm_that_is_refused_takes_the_others_with_it(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "kind").touch()
    with pytest.raises(UserError, match=r"^Slurm refused the job: Invalid account"):
        slurm.submit(plan_of(ARMS + "}", f"run_dir={tmp_path}/runs", f"data_root={tmp_path}/data"))
    calls = (fake_slurm / "calls").read_text()
    assert calls.count("sbatch") == 2 and "scancel 12" in calls
    assert not (tmp_path / "runs").exists()


def test_what_starts_from_a_run_at_work_here_is_left_out(fake_slurm: Path, tmp_path: Path) -> None:
    accept_all(fake_slurm)
    plan = plan_of(ARMS + ", seeds: 2}", f"run_dir={tmp_path}/runs", f"data_root={tmp_path}/data")
    run = plan.runs[0]
    run.folder.mkdir(parents=True)
    begin_attempt(run.folder, os.getpid())
    said = slurm.submit(plan)
    assert said.startswith("Submitted 4 runs in 4 arrays")
    assert said.endswith(" Left out: 3 runs after others at work elsewhere.")
    assert not plan.find("arm-b_seed-0").folder.exists()


def test_a_grid_larger_than_the_largest_array_is_several(fake_slurm: Path, tmp_path: Path) -> None:
    plan = plan_of("grid={seeds: 7}", "slurm.array_parallelism=5", f"run_dir={tmp_path}/runs")
    arrays = share_out(plan, plan.runs, {}, 3)
    assert [array.tasks for array in arrays] == ["0-2%1", "0-2%2", "0%1"]
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        write_launch(run.folder, Launch(queued=True))
    slurm.note_jobs(arrays, ["12", "13", "14"], alone=False)
    jobs = [launch.job for run in plan.runs if (launch := read_launch(run.folder))]
    assert jobs == ["12_0", "12_1", "12_2", "13_0", "13_1", "13_2", "14_0"]
    assert [array.tasks for array in share_out(plan, plan.runs[:3], {}, 3)] == ["0-2%3"]
    with pytest.raises(UserError, match=r"array_parallelism: expected at least 3, got 2: .* at most 3 runs"):
        share_out(plan_of("grid={seeds: 7}", "slurm.array_parallelism=2"), plan.runs, {}, 3)


def needy(tmp_path: Path, *keys: str) -> Plan:
    """A grid of two runs that need one, all in a folder of the test's own."""
    base = f"keys: [name=base, run_dir={tmp_path}/base, slurm.minutes=7]"
    needs = f"needs: [{{config: apps/memory/config/debug.yaml, {base}}}]"
    where = (f"run_dir={tmp_path}/g", f"data_root={tmp_path}/data", "slurm.partition=gpu")
    return plan_of(f"grid={{seeds: 2, {needs}}}", *where, *keys)


def test_what_is_needed_is_submitted_first_and_waited_for(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "sbatch").write_text(
        f'#!/bin/sh\necho "sbatch $*" >> {fake_slurm}/calls\ngrep -c sbatch {fake_slurm}/calls\n'
    )
    plan = needy(tmp_path)
    said = slurm.submit(plan)
    assert said.startswith("Submitted an array of 2 runs as job 2;") and "after what it needs, job 1." in said
    (first,) = (tmp_path / "base").glob("submissions/*/array_0.sh")
    (then,) = (tmp_path / "g").glob("submissions/*/array_0.sh")
    assert "--time=7\n" in first.read_text() and "depend" not in first.read_text()
    assert "#SBATCH --dependency=afterok:1\n" in then.read_text()
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in then.read_text()
    assert all((script.parent / "job.json").exists() for script in (first, then))
    (fake_slurm / "squeue").write_text("#!/bin/sh\nprintf '1 PENDING\\n2_0 PENDING\\n'\n")
    states = slurm.inspect_all(plan)
    assert [(state.kind, state.reason) for state in states.values()][:2] == [
        ("queued", ""),
        ("queued", "for base"),
    ]
    said = slurm.submit(plan)  # seed-1 was cancelled: it waits for the job that is there
    assert said.startswith("Submitted an array of 1 run as job 3;") and "after what it needs, job 1." in said
    assert len([*(tmp_path / "base").glob("submissions/*")]) == 1
    launch = read_launch(tmp_path / "base")
    assert launch is not None and launch.job == "1"


def test_a_grid_that_is_refused_takes_what_it_needs_with_it(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "kind").touch()
    with pytest.raises(UserError, match=r"^Slurm refused the job: Invalid account"):
        slurm.submit(needy(tmp_path))
    calls = (fake_slurm / "calls").read_text()
    assert calls.count("sbatch") == 2 and "scancel 12" in calls
    assert not (tmp_path / "base").exists() and not (tmp_path / "g").exists()


def test_a_grid_is_left_out_while_what_it_needs_is_at_work_here(fake_slurm: Path, tmp_path: Path) -> None:
    plan = needy(tmp_path)
    (tmp_path / "base").mkdir()
    begin_attempt(tmp_path / "base", os.getpid())
    assert "Nothing to submit" in (said := slurm.submit(plan)) and "Left out: 2 runs" in said
    assert "sbatch" not in (fake_slurm / "calls").read_text()


@pytest.mark.parametrize("exit_code", [1, None])  # None: Slurm killed it, and has forgotten it
def test_what_is_needed_and_goes_on_by_hand_is_no_job(
    exit_code: int | None, fake_slurm: Path, tmp_path: Path
) -> None:
    plan = needy(tmp_path)
    (tmp_path / "base").mkdir()
    write_launch(tmp_path / "base", Launch(n_attempts=1, job="12", exit_code=exit_code))
    with open(tmp_path / "base/.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Nothing to submit" in (said := slurm.submit(plan)) and "Left out: 2 runs" in said
    assert "sbatch" not in (fake_slurm / "calls").read_text()
