"""What a run folder and Slurm's queue together say about a run."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from nanollama.config import Config
from nanollama.launcher.attempts import Launch, write_launch
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.screen import state_lines
from nanollama.launcher.slurm import queue as slurm_queue
from nanollama.launcher.slurm.queue import Queue
from nanollama.launcher.states import State, inspect

HERE: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
GONE = {**HERE, "pid": 2**22 + 1}  # larger than any process number of Linux


class Trains(Config):
    """Like the config of a run of training."""

    training: int = 0


@pytest.mark.parametrize(
    ("launch", "queue", "kind"),
    [
        (Launch(**HERE), None, "running"),
        (Launch(**GONE), None, "waiting"),
        (Launch(**GONE, job="7"), {"7": "RUNNING"}, "running"),
        (Launch(**HERE, job="7"), {}, "failed"),
        (Launch(**HERE, job="7"), {"7": "PENDING"}, "queued"),
        (Launch(job="7", queued=True), None, "queued"),
        (Launch(job="7", queued=True), {"7": "PENDING"}, "queued"),
        (Launch(job="7", queued=True), {"7": "COMPLETING"}, "queued"),
        (Launch(job="7_0", queued=True), {"7_1": "PENDING"}, "failed"),
        (Launch(job="7", exit_code=75), {"7": "COMPLETING"}, "stopped"),
        (Launch(job="7", exit_code=75), {"7": "PENDING"}, "queued"),
        (Launch(job="7", exit_code=1, reason="no"), {"7": "COMPLETING"}, "failed"),
        (Launch(job="7", exit_code=0), {}, "failed"),
    ],
)
def test_the_kind_of_a_run(tmp_path: Path, launch: Launch, queue: Queue | None, kind: str) -> None:
    write_launch(tmp_path, launch)
    state = inspect(GridRun("r", tmp_path, Trains(), {}), queue)
    assert state.kind == kind
    assert bool(state.reason) == (kind == "failed")


def test_what_is_no_training_has_finished_when_it_ended_well(tmp_path: Path) -> None:
    write_launch(tmp_path, Launch(job="7", exit_code=0))
    assert inspect(GridRun("r", tmp_path, Config(), {}), {}).kind == "finished"


def test_long_lists_are_cut() -> None:
    states = {f"r{n}": State("waiting", {}) for n in range(4)} | {"f": State("failed", {}, "no")}
    assert list(state_lines(states, 2)) == [
        *("waiting   r0", "waiting   r1", "failed    f: no", "waiting   ... and 2 runs more")
    ]


def test_what_has_finished_is_finished_whatever_slurm_says(tmp_path: Path) -> None:
    write_launch(tmp_path, Launch(job="7"))
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    assert inspect(GridRun("r", tmp_path, Config(), {}), {"7": "RUNNING"}).kind == "finished"


def test_the_queue_is_read_as_squeue_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm_queue, "_ask", lambda *command: "12_3 PENDING\n13 RUNNING\n")
    assert slurm_queue.read_queue() == {"12_3": "PENDING", "13": "RUNNING"}
    monkeypatch.setattr(slurm_queue, "_ask", lambda *command: None)
    assert slurm_queue.read_queue() is None
    assert slurm_queue.max_array_size() == slurm_queue.DEFAULT_MAX_ARRAY_SIZE
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm_queue.read_queue() is None
