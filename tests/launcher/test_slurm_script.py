"""What is submitted to Slurm, without one: the script, the snapshot, and refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanollama.config import dump_config
from nanollama.errors import EXIT_FAILED, EXIT_OK, EXIT_PREEMPTED, ConfigError, UserError
from nanollama.launcher.attempts import (
    Launch,
    begin_attempt,
    read_launch,
    run_arguments,
    saved_step,
    was_preempted,
    write_launch,
)
from nanollama.launcher.plan import Plan, read_plan
from nanollama.launcher.settings import SlurmConfig
from nanollama.launcher.slurm import job
from nanollama.launcher.slurm import script as slurm_script
from nanollama.launcher.slurm import submit as slurm
from nanollama.launcher.slurm.arrays import share_out
from nanollama.launcher.slurm.examinations import Examinations
from nanollama.launcher.slurm.job import JobSpec, Place
from nanollama.launcher.slurm.snapshot import take_snapshot
from nanollama.monitor.successor import order_anew, succeed

ROOT = Path(__file__).parents[2]
DEBUG = "apps/memory/config/debug.yaml"


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the root of this repository."""
    monkeypatch.chdir(ROOT)


def plan_of(*keys: str) -> Plan:
    return read_plan([DEBUG, *keys])


def test_the_script_says_what_the_config_asks_for(at_root: None, fake_slurm: Path) -> None:
    config = SlurmConfig(
        partition="gpu",
        account="lab",
        qos="high",
        constraint="v100",
        n_nodes=2,
        n_processes=4,
        n_gpus=4,
        n_cpus=3,
        mem_gb=1.5,
        minutes=90,
        grace_seconds=60,
        setup=("module load cuda",),
    )
    plan = replace(plan_of(), slurm=config)
    (array,) = share_out(plan, plan.runs, {}, 1000)
    lines = slurm_script.array_script(plan, Path("/runs/debug/s"), 0, array).splitlines()
    assert lines[:-1] == [
        "#!/bin/bash",
        "#SBATCH --account=lab",
        "#SBATCH --constraint=v100",
        "#SBATCH --cpus-per-task=12",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --job-name=debug",
        "#SBATCH --mem=1536MB",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=/runs/debug/s/%j_0_log.out",
        "#SBATCH --partition=gpu",
        "#SBATCH --qos=high",
        "#SBATCH --requeue",
        "#SBATCH --signal=USR2@60",
        "#SBATCH --time=90",
        "module load cuda",
    ]
    srun = "srun --unbuffered --output /runs/debug/s/%j_%t_log.out --cpus-per-task 12 "
    assert lines[-1] == srun + slurm_script.build_command(Path("/runs/debug/s"), 0, 3)


def test_a_grid_is_one_array(at_root: None, fake_slurm: Path) -> None:
    plan = plan_of("grid={seeds: 6}", "slurm.array_parallelism=2")
    (array,) = share_out(plan, plan.runs, {}, 1000)
    script = slurm_script.array_script(plan, Path("/s"), 0, array)
    assert "#SBATCH --array=0-5%2\n" in script
    assert "#SBATCH --output=/s/%A_%a_0_log.out\n" in script
    assert "depend" not in script and "kill" not in script


def test_the_command_looks_for_code_in_the_copy_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert slurm_script.build_command(Path("/a b"), 1000, 3) == (
        "env 'PYTHONPATH=/a b/code/src:/a b/code:/other' 'NANOLLAMA_SNAPSHOT=/a b/snapshot.json' "
        f"OMP_NUM_THREADS=3 {sys.executable} -m nanollama.launcher.slurm.job '/a b' 1000"
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["slurm.partition=gpus"], r"expected one of cpu, gpu, got 'gpus'; did you mean 'gpu'\?"),
        ([], r"^Slurm refused the job: Invalid account or account/partition combination\.$"),
    ],
)
def test_a_refused_submission_leaves_nothing(
    at_root: None, fake_slurm: Path, tmp_path: Path, keys: list[str], message: str
) -> None:
    plan = plan_of(f"run_dir={tmp_path}/run", f"data_root={tmp_path}/data", *keys)
    with pytest.raises(UserError, match=message):
        slurm.submit(plan)
    assert not (tmp_path / "run").exists()


def test_an_array_that_is_refused_takes_the_others_with_it(
    at_root: None, fake_slurm: Path, tmp_path: Path
) -> None:
    (fake_slurm / "kind").touch()
    where = (f"run_dir={tmp_path}/runs", f"data_root={tmp_path}/data")
    with pytest.raises(UserError, match=r"^Slurm refused the job: Invalid account"):
        slurm.submit(plan_of("grid={seeds: 4}", *where))
    calls = [line.split()[0] for line in (fake_slurm / "calls").read_text().splitlines()]
    assert calls[-3:] == ["sbatch", "sbatch", "scancel"]
    assert "scancel 12" in (fake_slurm / "calls").read_text()
    assert not (tmp_path / "runs").exists()


def test_what_is_being_submitted_is_not_submitted_a_second_time(
    at_root: None, fake_slurm: Path, tmp_path: Path
) -> None:
    go, called = tmp_path / "go", tmp_path / "called"
    os.mkfifo(go)
    (fake_slurm / "sbatch").write_text(f"#!/bin/sh\necho >> {called}\nread line < {go}\necho 12\n")
    plan = plan_of("grid={seeds: 2}", f"run_dir={tmp_path}/g", f"data_root={tmp_path}/d")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slurm.submit, plan)
        while not called.exists():
            time.sleep(0.01)
        try:
            with pytest.raises(UserError, match=f"g is being submitted by process {os.getpid()} on .*: wait"):
                slurm.submit(plan)
        finally:
            go.write_text("on\n")
        assert first.result().startswith("Submitted an array of 2 runs as job 12;")
    assert called.read_text() == "\n"
    (fake_slurm / "squeue").write_text("#!/bin/sh\nprintf '12_0 PENDING\\n12_1 PENDING\\n'\n")
    assert slurm.submit(plan).startswith("Nothing to submit: 2 runs")
    assert not (plan.folder / slurm.LOCK).exists()


def finish(plan: Plan) -> dict[Path, bytes]:
    """Let all runs of a plan have finished; what their folders hold."""
    for run in plan.runs:
        (run.folder / "checkpoints/step_00000009").mkdir(parents=True)
        (run.folder / "checkpoints/step_00000009/manifest.json").write_text("{}")
        (run.folder / "config.yaml").write_text(dump_config(run.config))
        (run.folder / "environment.json").write_text('{"commit": "a"}')
        (run.folder / "metrics.jsonl").write_text('{"step": 9}\n')
        (run.folder / "result.json").write_text('{"status": "finished"}')
        write_launch(run.folder, Launch(n_attempts=3, exit_code=0))
    return content(plan.folder)


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("n_accepted", [0, 1])
def test_a_refused_overwrite_leaves_what_has_finished(
    at_root: None, fake_slurm: Path, tmp_path: Path, n_accepted: int
) -> None:
    plan = plan_of("grid={seeds: 4}", f"run_dir={tmp_path}/g", f"data_root={tmp_path}/d", "overwrite=true")
    before = finish(plan)
    if n_accepted:
        (fake_slurm / "kind").touch()
    with pytest.raises(UserError, match=r"^Slurm refused the job: Invalid account"):
        slurm.submit(plan)
    after = content(plan.folder)
    assert {path: after.pop(path, b"") for path in before} == before
    assert {path.name for path in after} <= {"launch.yaml"}
    assert {state.kind for state in slurm.inspect_all(plan).values()} == {"finished"}


def accept_all(fake_slurm: Path) -> None:
    (fake_slurm / "sbatch").write_text("#!/bin/sh\necho 12\n")


def test_what_waits_to_start_anew_is_kept_until_it_does(
    at_root: None, fake_slurm: Path, tmp_path: Path
) -> None:
    accept_all(fake_slurm)
    keys = (f"run_dir={tmp_path}/run", f"data_root={tmp_path}/data")
    plan = plan_of(*keys, "overwrite=true")
    (run,) = plan.runs
    before = finish(plan)
    slurm.submit(plan)
    assert all(path.read_bytes() == text for path, text in before.items() if path.name != "launch.json")
    assert run_arguments(run.folder) == [str(run.folder / "launch.yaml"), "overwrite=true"]
    assert "overwrite: false" in (run.folder / "launch.yaml").read_text(), "queued again, it goes on"
    (fake_slurm / "squeue").write_text("#!/bin/sh\necho '12 PENDING'\n")
    assert "Nothing to submit" in slurm.submit(plan_of(*keys))
    with pytest.raises(UserError, match=r"^The run debug is queued: cancel it before overwrite=true\.$"):
        slurm.submit(plan)
    (fake_slurm / "squeue").write_text("#!/bin/sh\n")  # the job was cancelled
    assert slurm.inspect_all(plan)["debug"].kind == "finished"
    assert "Nothing to submit" in slurm.submit(plan_of(*keys))
    assert run_arguments(run.folder) == [str(run.folder / "launch.yaml")], "the order is taken back"
    assert "Submitted 1 run" in slurm.submit(plan)
    with succeed(run.folder, anew=True):
        (run.folder / "metrics.jsonl").write_text('{"step": 1}\n')
    assert run_arguments(run.folder) == [str(run.folder / "launch.yaml")]


def test_what_is_queued_with_another_config_is_refused(
    at_root: None, fake_slurm: Path, tmp_path: Path
) -> None:
    accept_all(fake_slurm)
    keys = (f"run_dir={tmp_path}/run", f"data_root={tmp_path}/data")
    slurm.submit(plan_of(*keys))
    (fake_slurm / "squeue").write_text("#!/bin/sh\necho '12 PENDING'\n")
    expected = (
        r"debug in .* is queued with another config, training.seed is 0 there and 7 here: cancel it first"
    )
    with pytest.raises(UserError, match=expected):
        slurm.submit(plan_of(*keys, "training.seed=7"))
    assert "Nothing to submit" in slurm.submit(plan_of(*keys, "training.max_minutes=7"))
    (fake_slurm / "squeue").write_text("#!/bin/sh\necho '12 RUNNING'\n")
    begin_attempt(tmp_path / "run", os.getpid(), "12")
    with pytest.raises(UserError, match="is running with another config"):
        slurm.submit(plan_of(*keys, "training.seed=7"))
    (tmp_path / "run/launch.yaml").write_text("damaged: [\n")
    with pytest.raises(UserError, match=r"another config, .*launch\.yaml.* is not valid YAML"):
        slurm.submit(plan_of(*keys))


def test_another_config_is_submitted_with_overwrite(at_root: None, fake_slurm: Path, tmp_path: Path) -> None:
    accept_all(fake_slurm)
    keys = (f"run_dir={tmp_path}/run", f"data_root={tmp_path}/data", "training.seed=7")
    finish(plan_of(*keys[:2]))
    with pytest.raises(UserError, match="belongs to another config"):
        slurm.submit(plan_of(*keys))
    assert "Submitted 1 run" in slurm.submit(plan_of(*keys, "overwrite=true"))


def test_a_job_waits_until_its_submission_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = SimpleNamespace(heard=False)
    monkeypatch.setattr(job, "SECONDS_BETWEEN_TRIES", 0.01)
    threading.Timer(0.05, JobSpec("apps.toy.train", ({"0": "r"},)).write, (tmp_path,)).start()
    assert job.is_whole(tmp_path, requests)
    assert [*JobSpec.read(tmp_path).arrays] == [{"0": "r"}]
    assert not job.is_whole(tmp_path / "removed", requests)
    (tmp_path / "job.json").unlink()
    monkeypatch.setattr(job, "PATIENCE_SECONDS", 0.05)
    assert not job.is_whole(tmp_path, requests)
    requests.heard = True
    assert not job.is_whole(tmp_path, requests)
    assert "is not whole" in capsys.readouterr().out


def test_what_is_to_be_replaced_is_no_progress_and_is_not_examined(tmp_path: Path, fake_slurm: Path) -> None:
    (tmp_path / "checkpoints/step_00000004").mkdir(parents=True)
    (tmp_path / "checkpoints/step_00000004/manifest.json").touch()
    (tmp_path / "evaluate.sh").touch()
    (tmp_path / "result.json").write_text('{"status": "preempted"}')
    assert (saved_step(tmp_path), was_preempted(tmp_path)) == (4, True)
    order_anew(tmp_path)
    assert (saved_step(tmp_path), was_preempted(tmp_path)) == (0, False)
    Examinations(tmp_path, tmp_path).submit_new()
    assert not (fake_slurm / "calls").exists()


def test_a_time_limit_that_leaves_no_time_to_run_is_refused(at_root: None) -> None:
    with pytest.raises(
        ConfigError, match=r"minutes = 2 leaves no time to run: expected .* grace_seconds = 120,"
    ):
        plan_of("slurm={minutes: 2}")
    assert plan_of("slurm={minutes: 2, grace_seconds: 119}").slurm.minutes == 2


def test_examinations_are_jobs_of_one_process(at_root: None, fake_slurm: Path) -> None:
    evaluate = "apps/memory/config/eval.yaml"
    plan = plan_of("training.checkpoint.keep=null", f"slurm={{n_processes: 4, evaluate: {evaluate}}}")
    assert str(getattr(slurm.evaluation_config(plan), "run", "")) == "runs/debug"
    script = slurm_script.evaluation_script(plan, Path("/s"))
    assert "#SBATCH --cpus-per-task=1\n" in script and "#SBATCH --job-name=debug-eval\n" in script
    assert script.rstrip().endswith(
        'nanollama.launcher.slurm.child apps.memory.eval /s/evaluate.yaml run="$1"'
    )
    with pytest.raises(UserError, match=r"slurm.evaluate: expected training.checkpoint.keep=null, since"):
        slurm.evaluation_config(plan_of(f"slurm.evaluate={evaluate}"))
    with pytest.raises(UserError, match=r"nowhere.yaml: no such file"):
        slurm.evaluation_config(plan_of("training.checkpoint.keep=null", "slurm.evaluate=nowhere.yaml"))


def test_each_complete_checkpoint_is_examined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        assert not [name for name in options["env"] if name.startswith("SLURM_JOB")]
        return subprocess.CompletedProcess(command, 0, "77\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    for step in (4, 8):
        (tmp_path / f"run/checkpoints/step_{step:08d}").mkdir(parents=True)
    (tmp_path / "run/checkpoints/step_00000004/manifest.json").touch()
    Examinations(tmp_path, tmp_path / "run").submit_new()
    assert not calls
    (tmp_path / "evaluate.sh").touch()
    for _ in range(2):
        Examinations(tmp_path, tmp_path / "run").submit_new()
    assert [call[-1] for call in calls] == [str(tmp_path / "run/checkpoints/step_00000004")]
    assert json.loads((tmp_path / "run/examinations.json").read_text()) == {"step_00000004": "77"}


def test_training_goes_on_when_an_examination_cannot_be_submitted(
    tmp_path: Path, fake_slurm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoints/step_00000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    (tmp_path / "evaluate.sh").touch()
    Examinations(tmp_path, tmp_path).submit_new()
    assert f"{checkpoint} is not examined: sbatch: error: Invalid account" in capsys.readouterr().out
    (tmp_path / "examinations.json").unlink()
    monkeypatch.setenv("PATH", "/nowhere")
    Examinations(tmp_path, tmp_path).submit_new()
    assert "is not examined: [Errno 2] No such file" in capsys.readouterr().out


def test_a_machine_without_slurm_is_told_what_to_use(at_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"no Slurm on this machine.*python -m apps.memory.local_grid CONFIG"):
        slurm.submit(plan_of())


def test_a_slurm_that_is_not_running_is_told_apart(
    at_root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sbatch", "srun", "sinfo"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'sinfo: error: nobody there' >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        UserError, match=r"does not answer \(nobody there\): start it, or .*local_grid CONFIG"
    ):
        slurm.submit(plan_of())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("apps.memory.tarin", r"has no verb 'tarin' to launch; did you mean 'train'\?"),
        ("apps.other.train", r"is of the study 'other', but the config is of 'memory'"),
        ("train", r"expected a module of the form apps.<study>.<verb>, such as apps.memory.train"),
    ],
)
def test_a_wrong_script_is_refused(at_root: None, script: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_of(f"script={script}")


def test_the_script_may_be_named(at_root: None) -> None:
    plan = read_plan(["script=apps.memory.train", f"config={DEBUG}"])
    assert (plan.module, plan.name, len(plan.runs)) == ("apps.memory.train", "debug", 1)
    evaluation = read_plan(["script=apps.memory.eval", "config=apps/memory/config/eval.yaml", "name=exam"])
    assert (evaluation.name, evaluation.folder, evaluation.runs[0].trains) == (
        "exam",
        Path("runs/exam"),
        False,
    )


def test_a_snapshot_holds_tracked_files_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    for name in ("kept.py", "gone.py", "inner/a file.py"):
        (tmp_path / name).write_text("old")
    for command in ("git init -q .", "git add -A", "git -c user.name=n -c user.email=e commit -q -m first"):
        subprocess.run(command.split(), check=True)
    (tmp_path / "kept.py").write_text("new")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "untracked.py").touch()
    (tmp_path / "apps/mine").mkdir(parents=True)
    (tmp_path / "apps/mine/new.py").write_text("mine")
    (tmp_path / "apps/mine/large.bin").touch()
    (tmp_path / ".gitignore").write_text("*.bin\n")
    code = take_snapshot(tmp_path / "copy")
    files = {str(path.relative_to(code)): path.read_text() for path in code.rglob("*") if path.is_file()}
    assert files == {"kept.py": "new", "inner/a file.py": "old", "apps/mine/new.py": "mine"}
    note = json.loads((tmp_path / "copy/snapshot.json").read_text())
    assert len(note["commit"]) == 40 and "+new" in note["diff"]
    assert list(note["untracked"]) == ["apps/mine/new.py"]


def test_code_outside_git_cannot_be_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is not in a git repository; run `git init"):
        take_snapshot(tmp_path / "copy")


def test_several_processes_are_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ["-m", "nanollama.launcher.slurm.child", "apps.toy.train", "r/launch.yaml"]
    place = Place("12_3", 3, 0, "node[1-2]")
    one = JobSpec("apps.toy.train", ({"0": "r"},))
    assert job.child_command(one, place, Path("r")) == [sys.executable, *run]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    two = replace(one, n_processes=2)
    assert job.child_command(two, place, Path("r")) == [
        *torchrun, "--standalone", "--nproc-per-node", "2", *run
    ]  # fmt: skip
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "node1\nnode2\n", "")
    )
    assert job.child_command(replace(one, n_nodes=2), place, Path("r")) == [
        *torchrun, "--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "node1:20015",
        "--rdzv-id", "12_3", "--nproc-per-node", "1", *run,
    ]  # fmt: skip


@pytest.fixture
def scontrol(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been given to Slurm."""
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        state = "COMPLETING" if command[-1] == "666" else "RUNNING"
        return subprocess.CompletedProcess(command, 0, f"JobId=7 JobState={state}", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def conclude(folder: Path, code: int, **options: Any) -> tuple[int, Launch]:
    launch = read_launch(folder) or Launch(n_attempts=1)
    given = {"asked": False, "n_steps": 1, "job": "7"} | options
    returned = job.conclude(folder, replace(launch, queued=False), given.pop("job"), code, **given)
    found = read_launch(folder)
    assert found is not None
    return returned, found


def test_what_was_stopped_is_queued_again(tmp_path: Path, scontrol: list[list[str]]) -> None:
    for code, asked in ((EXIT_PREEMPTED, False), (-signal.SIGTERM, True), (EXIT_FAILED, True)):
        returned, launch = conclude(tmp_path, code, asked=asked)
        assert (returned, launch.queued, launch.exit_code) == (EXIT_PREEMPTED, True, None)
        assert scontrol.pop() == ["scontrol", "requeue", "7"]


def test_what_failed_or_was_cancelled_is_not(tmp_path: Path, scontrol: list[list[str]]) -> None:
    (tmp_path / "output.txt").write_text("ValueError: no\n")
    returned, launch = conclude(tmp_path, EXIT_FAILED)
    assert (returned, launch.exit_code, launch.reason) == (1, 1, "ValueError: no")
    assert conclude(tmp_path, -signal.SIGKILL)[0] == 1
    returned, launch = conclude(tmp_path, EXIT_PREEMPTED, job="666")
    assert (returned, launch.exit_code, launch.queued) == (EXIT_PREEMPTED, EXIT_PREEMPTED, False)
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    assert conclude(tmp_path, EXIT_OK)[0] == EXIT_OK
    assert not [call for call in scontrol if "requeue" in call]


def test_a_run_that_never_gets_on_is_given_up(tmp_path: Path, scontrol: list[list[str]]) -> None:
    write_launch(tmp_path, Launch())
    for _ in range(job.MAX_STALLED - 1):
        assert conclude(tmp_path, EXIT_PREEMPTED, n_steps=0)[0] == EXIT_PREEMPTED
    returned, launch = conclude(tmp_path, EXIT_PREEMPTED, n_steps=0)
    assert returned == EXIT_FAILED and "give it more `slurm.minutes`" in launch.reason
    write_launch(tmp_path, Launch(n_stalled=job.MAX_STALLED - 1))
    assert conclude(tmp_path, EXIT_PREEMPTED, n_steps=1)[1].n_stalled == 0


@pytest.fixture
def requests() -> Iterator[job.Requests]:
    """The handlers of signals are put back."""
    before = {number: signal.getsignal(number) for number in job.STOP_SIGNALS}
    try:
        yield job.Requests()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_requests_are_heard_before_the_run_starts(requests: job.Requests) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    assert requests.heard
    assert requests.run(["false"]) == EXIT_PREEMPTED


def test_torchrun_leaves_the_time_to_save_to_slurm(requests: job.Requests, tmp_path: Path) -> None:
    """As torchrun reads it; by itself it would kill its processes after half a minute."""
    program = tmp_path / "patience.py"
    program.write_text(
        "import sys\n"
        "from torch.distributed.launcher.api import LaunchConfig\n"
        "config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2)\n"
        f"sys.exit(config.shutdown_timeout < {24 * 3600})\n"
    )
    assert requests.run([sys.executable, str(program)]) == EXIT_OK
