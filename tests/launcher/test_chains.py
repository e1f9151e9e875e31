"""Runs that start from others, on this machine: in their order, whatever happens to runs and driver."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nanollama.monitor.rows import RowFile
from tests.launcher.conftest import Checkout, make_checkout
from tests.launcher.test_local_grid import RUN, attempts, n_alive
from tests.toy_training import newest, same_end, same_values

pytestmark = pytest.mark.slow

CHAIN = """\
grid:
  arms:
    c: {starts_from: {arm: b, but: [norm.*]}, training.optimizer.learning_rate: 0.01}
    b: {starts_from: a, training.n_steps: 16}
    a: {}
  seeds: 2
"""
NAMES = [f"arm-{arm}_seed-{seed}" for seed in (0, 1) for arm in "abc"]
WATCHED = "training: {log_every: 1, checkpoint: {every: 3}}\n"


def order(checkout: Checkout, grid: str) -> dict[str, tuple[float, float]]:
    """When each run of a grid began and ended, by the files that its process writes first and last."""
    folders = [path.parent for path in (checkout.folder / "runs" / grid).glob("*/result.json")]
    return {
        folder.name: ((folder / "launch.yaml").stat().st_mtime, (folder / "result.json").stat().st_mtime)
        for folder in folders
    }


def weights(run: Path) -> dict[str, object]:
    return dict(load_file(newest(run) / "model.safetensors"))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the chain has come to its end."""
    checkout = make_checkout(tmp_path_factory.mktemp("ended") / "a checkout")
    checkout.write("grid.yaml", f"name: g\n{CHAIN}")
    done = checkout.run(RUN, "grid.yaml", "local.n_jobs=3")
    assert done.returncode == 0, done.stderr
    return checkout


def test_it_is_said_what_a_run_begins_with(checkout: Checkout) -> None:
    checkout.write("grid.yaml", f"name: g\n{CHAIN}")
    dry = checkout.run(RUN, "grid.yaml", "--dry-run").stdout
    assert [line.split()[0] for line in dry.splitlines()[:-1]] == NAMES
    assert "arm-c_seed-1" in dry and dry.count("  after arm-b_seed-1") == 1
    status = checkout.run("nanollama", "grid", "status", "grid.yaml").stdout
    assert "6 waiting, of 6" in status and "waiting   arm-b_seed-0: for arm-a_seed-0" in status


def test_a_run_begins_with_what_the_one_before_it_has_learned(ended: Checkout) -> None:
    when = order(ended, "g")
    assert set(when) == {*NAMES}
    for seed in (0, 1):
        for parent, child in ("ab", "bc"):
            assert when[f"arm-{parent}_seed-{seed}"][1] <= when[f"arm-{child}_seed-{seed}"][0]
    # The config of a run is whole: by itself, elsewhere, it is the same run.
    alone = ended.run("apps.toy.train", "runs/g/arm-b_seed-1/config.yaml", "run_dir=runs/alone")
    assert alone.returncode == 0, alone.stderr
    runs = ended.folder / "runs"
    assert same_end(runs / "alone", runs / "g/arm-b_seed-1")
    new = ended.run(
        "apps.toy.train", "runs/g/arm-b_seed-1/config.yaml", "run_dir=runs/new", "interventions=[]"
    )
    assert new.returncode == 0 and not same_values(weights(runs / "new"), weights(runs / "alone"))


def test_a_failed_run_fails_what_starts_from_it_and_nothing_else(checkout: Checkout) -> None:
    text = (
        "grid:\n"
        "  arms: {a: {}, b: {starts_from: a}, c: {starts_from: b}, d: {starts_from: b, dropout: 0.5}}\n"
        "  product: {ending: [raise, well]}\n"
    )
    checkout.write("grid.yaml", f"name: g\n{text}")
    done = checkout.run(RUN, "grid.yaml", "local.n_jobs=2")
    assert done.returncode == 1 and "runs/g: 4 finished, 4 failed, of 8\n" in done.stdout
    said = "failed: not run: it starts from arm-{}_ending-raise, which has failed"
    assert f"arm-b_ending-raise  {said.format('a')}\n" in done.stderr
    assert f"arm-c_ending-raise  {said.format('b')}\n" in done.stderr
    status = checkout.run("nanollama", "grid", "status", "grid.yaml").stdout
    assert "failed    arm-a_ending-raise: RuntimeError: the toy is broken\n" in status
    for child, parent in ("ba", "cb", "db"):
        line = f"failed    arm-{child}_ending-raise: {said.format(parent).removeprefix('failed: ')}\n"
        assert line in status
    assert {name for name in attempts(checkout, "g") if "raise" in name} == {"arm-a_ending-raise"}
    train = checkout.folder / "apps/toy/train.py"
    train.write_text(train.read_text().replace('raise RuntimeError("the toy is broken")', "pass"))
    mended = checkout.run("nanollama", "grid", "retry", "grid.yaml", "local.n_jobs=2")
    assert mended.returncode == 0, mended.stdout
    n_attempts = {name: launch["n_attempts"] for name, launch in attempts(checkout, "g").items()}
    assert n_attempts == {name: 2 if name == "arm-a_ending-raise" else 1 for name in n_attempts}
    assert len(n_attempts) == 8


def test_a_stopped_run_leaves_those_after_it_waiting(checkout: Checkout) -> None:
    text = "seconds_a_step: 0.2\ngrid: {arms: {a: {}, b: {starts_from: a}}, seeds: 2}\n"
    checkout.write("grid.yaml", f"name: g\n{text}")
    with checkout.popen(RUN, "grid.yaml", "local.n_jobs=2") as process:
        while len(attempts(checkout, "g")) < 2 or n_alive(checkout) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 75, err
    assert "2 stopped, 2 waiting, of 4" in out
    status = checkout.run("nanollama", "grid", "status", "grid.yaml").stdout
    assert "waiting   arm-b_seed-1: for arm-a_seed-1" in status
    retry = checkout.run("nanollama", "grid", "retry", "grid.yaml")
    assert retry.returncode == 0 and len(attempts(checkout, "g")) == 2, "nothing has failed"
    assert checkout.run(RUN, "grid.yaml", "local.n_jobs=2").returncode == 0
    assert len(order(checkout, "g")) == 4


def test_a_chain_that_is_begun_anew_starts_from_what_is_new(checkout: Checkout, ended: Checkout) -> None:
    shutil.copytree(ended.folder / "runs", checkout.folder / "runs")
    text = f"training: {{optimizer: {{learning_rate: 0.02}}}}\n{CHAIN.replace('seeds: 2', 'seeds: 1')}"
    checkout.write("other.yaml", f"name: g\n{text}")
    checkout.write("calm.yaml", f"name: calm\n{text}")
    for config, *keys in (["other.yaml", "overwrite=true"], ["calm.yaml"]):
        done = checkout.run(RUN, config, "local.n_jobs=2", *keys)
        assert done.returncode == 0, done.stderr
    folders = (checkout.folder / "runs/g", checkout.folder / "runs/calm", ended.folder / "runs/g")
    for name in NAMES[:3]:
        new, calm, old = (folder / name for folder in folders)
        assert same_end(new, calm) and not same_end(new, old)


PLACES = (
    ("a", 0, "driver"),
    ("a", 7, "run"),
    ("b", 0, "driver and run"),
    ("b", 10, "driver"),
    ("c", 5, "run"),
)
"""An arm, the step that its run has come to, and what is killed there."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that nothing has disturbed, nor slowed down."""
    checkout = make_checkout(tmp_path_factory.mktemp("calm") / "a checkout")
    checkout.write("calm.yaml", f"name: calm\n{WATCHED}{CHAIN.replace('  seeds: 2', '')}")
    assert checkout.run(RUN, "calm.yaml").returncode == 0
    return checkout.folder / "runs/calm"


def test_a_chain_that_is_killed_five_times_ends_with_the_same_bits(checkout: Checkout, calm: Path) -> None:
    checkout.write("g.yaml", f"name: g\nseconds_a_step: 0.1\n{WATCHED}{CHAIN.replace('  seeds: 2', '')}")
    for arm, step, victims in PLACES:
        run = checkout.folder / "runs/g" / f"arm-{arm}"
        with checkout.popen(RUN, "g.yaml") as process:
            rows = RowFile(run / "metrics.jsonl")
            while rows.last().get("step", -1) < step or attempts(checkout, "g")[run.name]["exit_code"]:
                assert process.poll() is None, f"{run.name} should have come to step {step}"
                time.sleep(0.005)
            pid = attempts(checkout, "g")[run.name]["pid"]
            if "driver" in victims:
                process.kill()
            if "run" in victims:
                os.kill(pid, signal.SIGKILL)
            process.communicate(timeout=300)
        assert not (run / "result.json").exists() or checkout.result(f"g/{run.name}")["status"] != "finished"
    done = checkout.run(RUN, "g.yaml")
    assert done.returncode == 0, done.stderr
    n_attempts = {name: launch["n_attempts"] for name, launch in attempts(checkout, "g").items()}
    assert n_attempts == {"arm-a": 3, "arm-b": 3, "arm-c": 2}
    for arm in "abc":
        run = checkout.folder / "runs/g" / f"arm-{arm}"
        assert "Going on from step" in (run / "log.txt").read_text()
        assert same_end(run, calm / f"arm-{arm}")
