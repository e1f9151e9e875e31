"""A grid on this machine: every run ends once, whatever happens to runs and driver."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.launcher.conftest import Checkout
from tests.toy_training import same_end

pytestmark = pytest.mark.slow

RUN = "apps.toy.local_grid"


def attempts(checkout: Checkout, grid: str) -> dict[str, dict[str, Any]]:
    """``launch.json`` of each run, by name."""
    folder = checkout.folder / "runs" / grid
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/launch.json"))}


def n_alive(checkout: Checkout) -> int:
    """Processes that were forked to be a run: they write to its output, and their parent does not."""
    writers = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            output = os.readlink(f"/proc/{pid}/fd/1")
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if output.startswith(f"{checkout.folder}/runs/") and output.endswith("/output.txt"):
            writers[pid] = parent
    return sum(parent not in writers for parent in writers.values())


def test_failures_are_named_and_hurt_nobody_else(checkout: Checkout) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {product: {ending: [raise, well, kill, refuse, exit]}}\n")
    done = checkout.run(RUN, "grid.yaml", "local.n_jobs=2")
    assert done.returncode == 1, done.stderr
    assert "runs/g: 1 finished, 4 failed, of 5\n" in done.stdout
    reasons = {name: launch["reason"] for name, launch in attempts(checkout, "g").items()}
    assert reasons == {
        "ending-well": "",
        "ending-raise": "RuntimeError: the toy is broken",
        "ending-kill": "killed by SIGKILL (out of memory?)",
        "ending-refuse": "The toy does not want to.",
        "ending-exit": "exit code 7 after: about to end",
    }
    assert all(f"{name}: {why}" in done.stdout for name, why in reasons.items() if why)
    finished = checkout.folder / "runs/g/ending-well"
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    again = checkout.run("nanollama", "grid", "retry", "grid.yaml", "local.n_jobs=1")
    assert again.returncode == 1
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    counts = {name: launch["n_attempts"] for name, launch in attempts(checkout, "g").items()}
    assert counts == {name: 1 if name == "ending-well" else 2 for name in reasons}


def test_what_is_retried_anew_is_what_failed(checkout: Checkout) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {product: {ending: [raise, well]}}\n")
    assert checkout.run(RUN, "grid.yaml", "local.n_jobs=1").returncode == 1
    again = checkout.run("nanollama", "grid", "retry", "grid.yaml", "overwrite=true", "local.n_jobs=1")
    assert again.returncode == 1 and "1 finished, 1 failed, of 2" in again.stdout
    assert {name: launch["n_attempts"] for name, launch in attempts(checkout, "g").items()} == {
        "ending-raise": 1,  # anew
        "ending-well": 1,
    }
    assert checkout.result("g/ending-well")["status"] == "finished"


def test_verbs_tell_what_became_of_a_grid(checkout: Checkout) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {product: {dropout: [0.0, 0.5]}, seeds: 3}\n")
    dry = checkout.run(RUN, "grid.yaml", "--dry-run")
    assert dry.returncode == 0 and "dropout-0.5_seed-2" in dry.stdout and "6 runs in runs/g" in dry.stdout
    assert not (checkout.folder / "runs").exists()
    assert "of 6" in checkout.run("nanollama", "grid", "status", "grid.yaml").stdout
    refused = checkout.run("nanollama", "grid", "results", "grid.yaml")
    assert refused.returncode == 2 and "has a result yet" in refused.stderr
    assert checkout.run(RUN, "grid.yaml", "local.n_jobs=2").returncode == 0
    assert "6 finished, of 6" in checkout.run("nanollama", "grid", "status", "grid.yaml").stdout
    logs = checkout.run("nanollama", "grid", "logs", "grid.yaml", "dropout-0.0_seed-1")
    assert "about to end" in logs.stdout
    results = checkout.run("nanollama", "grid", "results", "grid.yaml")
    assert results.returncode == 0 and "dropout=0.5 (3 seeds)" in results.stdout
    with open(checkout.folder / "runs/g/results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dropout"], row["training.seed"]) for row in rows][:3] == [
        ("0.0", "0"),
        ("0.5", "0"),
        ("0.0", "1"),
    ]
    assert {row["status"] for row in rows} == {"finished"}


def test_never_more_workers_than_asked_for_and_ctrl_c_saves(checkout: Checkout) -> None:
    checkout.write("grid.yaml", "name: g\nseconds_a_step: 0.15\ngrid: {seeds: 6}\n")
    most = 0
    with checkout.popen(RUN, "grid.yaml", "local.n_jobs=2") as process:
        codes: list[int | None] = []
        while codes.count(0) < 2 or codes.count(None) < 2:  # two have ended, the next two run
            most = max(most, n_alive(checkout))
            codes = [launch["exit_code"] for launch in attempts(checkout, "g").values()]
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert most == 2
    assert process.returncode == 75, err
    assert "run the command again" in err
    kinds = {launch["exit_code"] for launch in attempts(checkout, "g").values()}
    assert kinds == {0, 75}
    assert (
        checkout.run(RUN, "grid.yaml", "seconds_a_step=0", "local.n_jobs=2").returncode == 2
    )  # another grid
    assert checkout.run(RUN, "grid.yaml", "local.n_jobs=2").returncode == 0


def test_a_killed_driver_loses_nothing(checkout: Checkout) -> None:
    text = "training: {checkpoint: {every: 3}}\ngrid: {seeds: 4}\n"
    checkout.write("calm.yaml", f"name: calm\n{text}")
    checkout.write("grid.yaml", f"name: g\nseconds_a_step: 0.05\n{text}")
    assert checkout.run(RUN, "calm.yaml", "local.n_jobs=2").returncode == 0
    moments = random.Random(0)
    finished: dict[Path, int] = {}

    def note_finished() -> int:
        for path in checkout.folder.glob("runs/g/*/result.json"):
            if json.loads(path.read_text())["status"] == "finished":
                finished.setdefault(path, path.stat().st_mtime_ns)
        return len(finished)

    for n_finished in range(3):
        with checkout.popen(RUN, "grid.yaml", "local.n_jobs=2") as process:
            n_before = sum(launch["n_attempts"] for launch in attempts(checkout, "g").values())
            while (
                note_finished() < n_finished
                or sum(launch["n_attempts"] for launch in attempts(checkout, "g").values()) == n_before
            ):
                if process.poll() is not None:  # all had ended before
                    break
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.5))
            process.kill()
        note_finished()
    assert len(finished) > 1 and max(run["n_attempts"] for run in attempts(checkout, "g").values()) > 1
    last = checkout.run(RUN, "grid.yaml", "local.n_jobs=2")
    assert last.returncode == 0, last.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for seed in range(4):
        folders = [checkout.folder / "runs" / grid / f"seed-{seed}" for grid in ("calm", "g")]
        assert same_end(*folders)


def kept(checkout: Checkout) -> dict[str, str]:
    """The results of the grid g, by run."""
    return {path.parent.name: path.read_text() for path in checkout.folder.glob("runs/g/*/result.json")}


def test_overwriting_keeps_each_run_until_it_has_begun_anew(checkout: Checkout) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {seeds: 2}\n")
    assert checkout.run(RUN, "grid.yaml", "local.n_jobs=2").returncode == 0
    train = checkout.folder / "apps/toy/train.py"
    before, code = kept(checkout), train.read_text()
    train.write_text("import nothing_of_this_name\n")
    assert checkout.run(RUN, "grid.yaml", "overwrite=true").returncode == 2
    assert kept(checkout) == before
    assert "2 finished, of 2" in checkout.run("nanollama", "grid", "status", "grid.yaml").stdout
    train.write_text(code.replace("misbehave(config.ending)", 'misbehave("refuse")'))
    done = checkout.run(RUN, "grid.yaml", "overwrite=true", "local.n_jobs=1")
    assert done.returncode == 1
    assert "failed    seed-1: The toy does not want to." in done.stdout
    assert kept(checkout) == before
    train.write_text(code)
    retry = ("nanollama", "grid", "retry", "grid.yaml", "local.n_jobs=2")
    left = checkout.run(*retry)
    assert left.returncode == 1 and "2 runs that failed to start anew, such as seed-" in left.stdout
    assert kept(checkout) == before
    said = checkout.run("nanollama", "grid", "results", "grid.yaml").stdout
    assert "Left out, ordered to start anew: 2 runs, such as seed-0: `nanollama grid run` starts" in said
    assert checkout.run(*retry, "overwrite=true").returncode == 0
    assert kept(checkout).keys() == before.keys() and kept(checkout) != before


def test_what_slurm_holds_is_left_to_it(checkout: Checkout, fake_slurm: Path) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {seeds: 2}\n")
    (fake_slurm / "squeue").write_text("#!/bin/sh\necho '7_0 PENDING'\n")
    ledger = checkout.folder / "runs/g/seed-0/launch.json"
    ledger.parent.mkdir(parents=True)
    ledger.write_text('{"n_attempts": 1, "job": "7_0", "queued": true}')
    refused = checkout.run(RUN, "grid.yaml", "overwrite=true")
    assert refused.returncode == 2
    assert refused.stderr == "The run seed-0 is queued: cancel it before overwrite=true.\n"
    assert "seed-1" not in attempts(checkout, "g")
    done = checkout.run(RUN, "grid.yaml", "local.n_jobs=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Left out, queued or running elsewhere: 1 run, such as seed-0.",
        "runs/g: 1 finished, 1 queued, of 2",
    ]
    assert ledger.read_text() == '{"n_attempts": 1, "job": "7_0", "queued": true}'


def test_wrong_input_starts_nothing(checkout: Checkout) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {product: {dropout: [0.0, 2.0]}}\n")
    done = checkout.run(RUN, "grid.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "dropout: expected a number >= 0 and < 1, got 2.0. [first in run dropout-2.0]" in done.stderr
    checkout.write("plain.yaml", "name: p\n")
    assert "has no section `grid`" in checkout.run(RUN, "plain.yaml").stderr
    assert not (checkout.folder / "runs").exists()
    (checkout.folder / "runs").touch()
    checkout.write("grid.yaml", "name: g\ngrid: {seeds: 2}\n")
    done = checkout.run(RUN, "grid.yaml")
    assert done.returncode == 2
    assert done.stderr == "The grid in runs/g cannot be run, writing there failed: Not a directory.\n"


def test_a_study_that_cannot_be_imported_is_named(checkout: Checkout) -> None:
    (checkout.folder / "apps/toy/train.py").write_text("import nothing_of_this_name\n")
    checkout.write("grid.yaml", "name: g\ngrid: {seeds: 2}\n")
    done = checkout.run(RUN, "grid.yaml")
    assert done.returncode == 2
    assert "The module apps.toy.train cannot be imported: ModuleNotFoundError" in done.stderr
