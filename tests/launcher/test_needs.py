"""Grids that need a run of another kind, made once: what may be needed, and how it and they are run here."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from nanollama.errors import EXIT_USER_ERROR
from nanollama.launcher.attempts import begin_attempt, last_row, read_launch
from nanollama.launcher.local.run import main
from tests.launcher.conftest import Checkout
from tests.launcher.test_local_grid import RUN
from tests.toy_training import same_end

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "apps/memory/config"


def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str], needs: str) -> str:
    """What is said to a grid that needs this."""
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"base: {CONFIGS}/debug.yaml\nname: g\nrun_dir: {tmp_path}/g\ngrid:\n  seeds: 2\n  needs: [{needs}]\n"
    )
    for dry in (["--dry-run"], []):
        assert main([str(path), *dry]) == EXIT_USER_ERROR
        said = capsys.readouterr()
        assert not said.out and len(said.err.splitlines()) == 1, said
    assert not (tmp_path / "g").exists()
    return said.err


@pytest.mark.parametrize(
    ("needs", "message"),
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
    needs: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    said = refusal(tmp_path, capsys, needs.replace("CONFIGS", str(CONFIGS)).replace("TMP", str(tmp_path)))
    assert said.startswith(f"{tmp_path}/grid.yaml:") and re.search(message, said), said


GRID = """\
interventions: [{implementation: load, run: runs/base}]
grid:
  seeds: 2
  needs: [{config: first.yaml, script: apps.toy.first.base, keys: [dropout=0.25]}]
"""


def write(checkout: Checkout, grid: str = "name: g\n", first: str = "") -> None:
    """A grid of two runs that load what another kind of run has learned."""
    checkout.write("first.yaml", f"name: base\n{first}")
    checkout.write("grid.yaml", f"{grid}{GRID}")


def status(checkout: Checkout) -> str:
    return checkout.run("nanollama", "grid", "status", "grid.yaml").stdout


@pytest.mark.slow
def test_what_is_needed_is_made_once_for_all_grids(checkout: Checkout) -> None:
    write(checkout)
    checkout.write("other.yaml", f"name: other\n{GRID}")
    dry = checkout.run(RUN, "grid.yaml", "--dry-run").stdout.splitlines()
    assert dry[0].split()[0] == "base" and dry[0].endswith("by apps.toy.first.base in runs/base, waiting")
    assert dry[1].endswith("training.seed=0  after base") and dry[-1].startswith("2 runs in runs/g")
    assert status(checkout).splitlines() == [
        "runs/g: 2 waiting, of 2",
        "waiting   base",
        "waiting   seed-0: for base",
        "waiting   seed-1: for base",
    ]
    assert not (checkout.folder / "runs").exists()
    done = checkout.run(RUN, "grid.yaml", "local.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert "1/1  base  finished" in done.stderr and "runs/g: 2 finished, of 2\n" in done.stdout
    base = checkout.folder / "runs/base"
    assert (base / "left.txt").exists() and "dropout: 0.25" in (base / "config.yaml").read_text()
    assert "about to end" in checkout.run("nanollama", "grid", "logs", "grid.yaml", "base").stdout
    before = (base / "result.json").stat().st_mtime_ns
    for config, *keys in (["grid.yaml", "overwrite=true"], ["other.yaml"]):
        assert checkout.run(RUN, config, "local.n_jobs=2", *keys).returncode == 0
    launch = read_launch(base)
    assert launch is not None and launch.n_attempts == 1
    assert (base / "result.json").stat().st_mtime_ns == before
    other = (base / "config.yaml").read_text().replace("dropout: 0.25", "dropout: 0.5")
    (base / "config.yaml").write_text(other)
    refused = checkout.run(RUN, "grid.yaml", "overwrite=true")
    assert (
        refused.returncode == 2 and "runs/base belongs to another config, dropout is 0.5 th" in refused.stderr
    )


@pytest.mark.slow
def test_a_need_that_is_killed_or_stopped_goes_on_to_the_same_bits(checkout: Checkout) -> None:
    first = "seconds_a_step: 0.1\nseconds_after: 1\ntraining: {log_every: 1, checkpoint: {every: 3}}\n"
    write(checkout, first=first)
    checkout.write("calm.yaml", f"name: calm\n{first}dropout: 0.25\n")
    base = checkout.folder / "runs/base"
    endings = ((signal.SIGKILL, 2, "run"), (signal.SIGKILL, 5, "driver"), (signal.SIGINT, 8, "driver"))
    for number, step, victim in endings:
        with checkout.popen(RUN, "grid.yaml") as process:
            while last_row(base).get("step", -1) < step:
                assert process.poll() is None
                time.sleep(0.01)
            launch = read_launch(base)
            assert launch is not None
            os.kill(launch.pid if victim == "run" else process.pid, number)
            out, _ = process.communicate(timeout=300)
        if number == signal.SIGINT:
            assert process.returncode == 75 and "runs/g: 2 waiting, of 2" in out
            assert "stopped   base" in status(checkout)
        elif victim == "run":
            assert process.returncode == 1 and "2 failed, of 2" in out
    with checkout.popen(RUN, "grid.yaml") as process:  # killed before it has left what comes after its result
        while not (base / "result.json").exists() or checkout.result("base")["status"] != "finished":
            assert process.poll() is None
            time.sleep(0.01)
        launch = read_launch(base)
        assert launch is not None
        os.kill(launch.pid, signal.SIGKILL)
        process.communicate(timeout=300)
    assert not (base / "left.txt").exists() and "failed    base: killed by SIGKILL" in status(checkout)
    done = checkout.run(RUN, "grid.yaml", "local.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert (base / "left.txt").exists()
    assert checkout.run("apps.toy.first.base", "calm.yaml").returncode == 0
    assert same_end(base, checkout.folder / "runs/calm")


@pytest.mark.slow
def test_a_failed_need_fails_the_grid_and_is_retried(checkout: Checkout) -> None:
    write(checkout, first="ending: raise\n")
    done = checkout.run(RUN, "grid.yaml")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "runs/g: 2 failed, of 2",
        "failed    base: RuntimeError: the toy is broken",
        *(f"failed    seed-{n}: not run: it starts from base, which has failed" for n in (0, 1)),
    ]
    assert [*(checkout.folder / "runs/g").glob("*/launch.json")] == []
    train = checkout.folder / "apps/toy/train.py"
    train.write_text(train.read_text().replace('raise RuntimeError("the toy is broken")', "pass"))
    mended = checkout.run("nanollama", "grid", "retry", "grid.yaml", "local.n_jobs=2")
    assert mended.returncode == 0, mended.stderr
    launch = read_launch(checkout.folder / "runs/base")
    assert launch is not None and launch.n_attempts == 2


@pytest.mark.slow
def test_a_need_at_work_elsewhere_is_left_to_whoever_runs_it(checkout: Checkout) -> None:
    write(checkout)
    base = checkout.folder / "runs/base"
    base.mkdir(parents=True)
    begin_attempt(base, os.getpid())
    done = checkout.run(RUN, "grid.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "Left out, base is running elsewhere and has to finish first: 2 runs, such as seed-0."
    )
    assert "waiting   seed-0: for base" in status(checkout)
