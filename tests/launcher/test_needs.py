"""Grids that need a run of another kind, made once: what may be needed, and how it and they are run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from apps.memory import prepare as memory_prepare
from nanollama.config import Config, dump_config
from nanollama.errors import EXIT_USER_ERROR
from nanollama.launcher.attempts import Launch, begin_attempt, read_launch, write_launch
from nanollama.launcher.grid import commands
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.starts import check_starts
from nanollama.launcher.local import needs
from nanollama.launcher.local import run as local
from nanollama.launcher.local.run import main
from nanollama.launcher.plan import Plan, read_grid, read_plan
from nanollama.monitor.rows import RowFile
from tests.launcher.conftest import Checkout
from tests.launcher.test_local_grid import RUN
from tests.toy_training import same_end

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "apps/memory/config"
JUDGED = 7
"""Stands for the exit code of a grid that is finished and judged."""


def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: str) -> str:
    """What is said to a grid that needs this."""
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"base: {CONFIGS}/debug.yaml\nname: g\nrun_dir: {tmp_path}/g\n"
        f"grid:\n  seeds: 2\n  needs: [{wanted}]\n"
    )
    for dry in (["--dry-run"], []):
        assert main([str(path), *dry]) == EXIT_USER_ERROR
        said = capsys.readouterr()
        assert not said.out and len(said.err.splitlines()) == 1, said
    assert not (tmp_path / "g").exists()
    return said.err


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("{config: nowhere.yaml}", r"grid\.needs\.0: \S+/nowhere\.yaml: no such file"),
        (
            "{config: grid.yaml}",
            r"grid\.needs\.0: expected the config of a single run, but it has a section `g",
        ),
        (
            "{config: CONFIGS/local_grid.yaml}",
            r"expected the config of a single run, but it has a section `g",
        ),
        (
            "{config: CONFIGS/debug.yaml, script: apps.memory.trian}",
            r"no verb 'trian' .*did you mean 'train'\?",
        ),
        (
            "{config: CONFIGS/debug.yaml, script: apps.tying.train}",
            r"is of the study 'tying', but the config",
        ),
        (
            "{config: CONFIGS/circuit.yaml, script: apps.memory.circuit}",
            r"expected a run of training: the fold",
        ),
        (
            "{config: CONFIGS/debug.yaml, keys: [training.n_step=3]}",
            r"grid\.needs\.0: command line: .*n_steps",
        ),
        (
            "{config: CONFIGS/debug.yaml, keys: [run_dir=TMP/g/base]}",
            r"its folder \S+/g/base is in that of the",
        ),
        (
            "{config: CONFIGS/debug.yaml, keys: [run_dir=TMP]}",
            r"its folder \S+ is around that of the grid",
        ),
        (
            "{config: CONFIGS/debug.yaml, keys: [run_dir=TMP/b]}, "
            "{config: CONFIGS/debug.yaml, keys: [name=other, run_dir=TMP/b]}",
            r"needs\.1: its folder \S+/b is that of 'debug'",
        ),
        (
            "{config: CONFIGS/debug.yaml}, {config: CONFIGS/debug.yaml}",
            r"needs\.1: the run 'debug' is needed tw",
        ),
        (
            "{config: CONFIGS/debug.yaml, keys: [name=seed-1]}",
            r"a run of the grid is called 'seed-1' as well",
        ),
        ("{script: apps.memory.train}", r"grid\.needs\.0\.config: required key is missing"),
    ],
)
def test_what_cannot_be_needed_is_refused_where_it_is_asked_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wanted: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    said = refusal(tmp_path, capsys, wanted.replace("CONFIGS", str(CONFIGS)).replace("TMP", str(tmp_path)))
    assert said.startswith(f"{tmp_path}/grid.yaml:") and re.search(message, said), said


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a grid of the memory study would run here, by name; it finishes at once."""
    monkeypatch.chdir(ROOT)
    names: list[str] = []

    def start(plan: Plan, missing: Sequence[GridRun], locks: Sequence[int], n_finished: int) -> bool:
        for run in missing:
            names.append(run.name)
            finish(run)
        return True

    for module in (local, needs):
        monkeypatch.setattr(module, "start", start)
    monkeypatch.setattr(local, "_show_outcome", lambda plan: JUDGED)
    return names


def finish(run: GridRun) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    write_launch(run.folder, Launch(exit_code=0))
    (run.folder / "config.yaml").write_text(dump_config(run.config))
    (run.folder / "result.json").write_text(json.dumps({"status": "finished", "config_hash": run.id}))


def write_grid(folder: Path, name: str = "g") -> str:
    """A grid of two runs that need one, all in a folder of the test's own."""
    need = f"{{config: {CONFIGS}/debug.yaml, keys: [name=base, run_dir={folder}/base, overwrite=true]}}"
    path = folder / f"{name}.yaml"
    path.write_text(
        f"base: {CONFIGS}/debug.yaml\nname: {name}\nrun_dir: {folder}/{name}\ndata_root: {folder}/data\n"
        f"grid: {{seeds: 2, needs: [{need}]}}\n"
    )
    return str(path)


def test_what_is_needed_is_made_once_for_all_grids(tmp_path: Path, asked: list[str]) -> None:
    grid, other = write_grid(tmp_path), write_grid(tmp_path, "other")
    assert main([grid]) == JUDGED and asked == ["base", "seed-0", "seed-1"]
    for arguments in ([grid], [other], [grid, "overwrite=true"]):
        assert main(arguments) == JUDGED
    assert asked[3:] == ["seed-0", "seed-1"] * 2
    shutil.rmtree(tmp_path / "base")
    assert main([grid]) == JUDGED and len(asked) == 7, "nothing is missing of the grid"
    assert main([grid, "training.batch_size=7", "overwrite=true"]) == JUDGED and asked[7] == "base"


def test_what_is_needed_and_belongs_to_another_config_is_refused(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path)
    finish(replace(read_plan([f"{CONFIGS}/debug.yaml", "training.seed=5"]).runs[0], folder=tmp_path / "base"))
    assert main([grid]) == EXIT_USER_ERROR and not asked
    assert "/base belongs to another config, name is 'debug' there and 'base' here" in capsys.readouterr().err


def test_a_need_at_work_elsewhere_is_left_to_whoever_runs_it(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path)
    (tmp_path / "base").mkdir()
    begin_attempt(tmp_path / "base", os.getpid())
    assert main([grid]) == 0 and not asked
    assert capsys.readouterr().out.splitlines() == [
        "Left out, base is running elsewhere and has to finish first: 2 runs, such as seed-0.",
        f"{tmp_path}/g: 2 waiting, of 2",
        "The others were left out: `nanollama grid run` runs them, once base has finished.",
    ]


def test_status_dry_run_and_logs_know_what_is_needed(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path)
    assert main([grid, "--dry-run"]) == 0
    first, *runs, last = capsys.readouterr().out.splitlines()
    assert first.startswith("base ") and first.endswith(f"by apps.memory.train in {tmp_path}/base, waiting")
    assert [run.endswith("  after base") for run in runs] == [True, True]
    assert last.startswith(f"2 runs in {tmp_path}/g")
    commands.status([grid])
    waiting = ["waiting   base", "waiting   seed-0: for base", "waiting   seed-1: for base"]
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/g: 2 waiting, of 2", *waiting]
    (tmp_path / "base").mkdir()
    (tmp_path / "base/output.txt").write_text("said\n")
    commands.logs([grid], "base")
    assert capsys.readouterr().out == "said\n"


def test_a_model_that_is_not_there_yet_is_neither_prepared_nor_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    read: list[Config] = []
    monkeypatch.setattr(memory_prepare, "read_text", read.append)
    keys = [f"data_root={tmp_path}/data", "data.n_people=2"]
    freeze = "interventions=[{implementation: freeze, parameters: [hed.*]}]"
    base = f"grid.needs.0.keys=[run_dir={tmp_path}/base]"
    there = [*keys, base, f"model.path={tmp_path}/base/model"]
    plan = read_grid([f"{CONFIGS}/forgetting_choice.yaml", *there, freeze])
    assert all(plan.awaits(run) for run in plan.runs) and plan.needs[0].local.n_jobs == 1
    check_starts(plan)
    local.prepare(plan)
    assert not read
    for name in ("elsewhere/model", "base_2/model"):
        plan = read_grid([f"{CONFIGS}/forgetting_choice.yaml", *keys, base, f"model.path={tmp_path}/{name}"])
        assert not any(plan.awaits(run) for run in plan.runs)
    local.prepare(plan)
    assert read


GRID = """\
interventions: [{implementation: load, run: runs/base}]
grid:
  seeds: 2
  needs: [{config: first.yaml, script: apps.toy.first.base, keys: [dropout=0.25]}]
"""


@pytest.mark.slow
def test_a_need_that_is_killed_or_stopped_goes_on_to_the_same_bits(checkout: Checkout) -> None:
    slow = "seconds_a_step: 0.1\ntraining: {log_every: 1, checkpoint: {every: 3}}\n"
    checkout.write("first.yaml", f"name: base\n{slow}")
    checkout.write("grid.yaml", f"name: g\n{GRID}")
    base = checkout.folder / "runs/base"
    for number, step in ((signal.SIGKILL, 2), (signal.SIGINT, 5)):
        with checkout.popen(RUN, "grid.yaml") as process:
            while RowFile(base / "metrics.jsonl").last().get("step", -1) < step:
                assert process.poll() is None
                time.sleep(0.01)
            launch = read_launch(base)
            assert launch is not None
            os.kill(launch.pid if number == signal.SIGKILL else process.pid, number)
            out, _ = process.communicate(timeout=300)
        if number == signal.SIGKILL:
            assert process.returncode == 1
            assert out.splitlines() == [
                "runs/g: 2 failed, of 2",
                "failed    base: killed by SIGKILL (out of memory?)",
                *(f"failed    seed-{n}: not run: it starts from base, which has failed" for n in (0, 1)),
            ]
        else:
            assert process.returncode == 75 and "runs/g: 2 waiting, of 2" in out
    assert not [*(checkout.folder / "runs/g").glob("*/launch.json")]
    done = checkout.run("nanollama", "grid", "run", "grid.yaml", "local.n_jobs=2")
    assert done.returncode == 0 and "runs/g: 2 finished, of 2\n" in done.stdout, done.stderr
    launch = read_launch(base)
    assert launch is not None and launch.n_attempts == 3 and (base / "left.txt").exists()
    keys = ("dropout=0.25", "seconds_a_step=0", "run_dir=runs/calm")
    calm = checkout.run("apps.toy.first.base", "first.yaml", *keys)
    assert calm.returncode == 0 and same_end(base, checkout.folder / "runs/calm")
