"""A grid that is followed: its states, failures with their last lines, and the time that is left."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanollama.cli.command import main as nanollama
from nanollama.errors import UserError
from nanollama.launcher.attempts import Launch, write_launch
from nanollama.launcher.states import write_config
from nanollama.watch.command import watch
from nanollama.watch.watched import Watched

CONFIG = "apps/memory/config/local_grid.yaml"


@pytest.fixture
def grid(tmp_path: Path) -> Watched:
    watched = watch([CONFIG, f"run_dir={tmp_path / 'grid'}"])
    watched.read_all()
    return watched


def told(watched: Watched) -> dict[str, Any]:
    watched._look_at = 0
    watched.refresh()
    (grid,) = watched.state()["grids"]
    assert isinstance(grid, dict)
    return grid


def begin(watched: Watched, number: int, **launch: Any) -> Path:
    run = watched.runs[number].planned
    assert run is not None
    write_config(run)
    write_launch(run.folder, Launch(n_attempts=1, host="somewhere", pid=1, **launch))
    return run.folder


def test_what_has_not_begun_waits(grid: Watched) -> None:
    found = told(grid)
    assert found["counts"] == {"waiting": 12} and found["left"] == ""
    assert len(found["waiting"]) == 10 and found["failed"] == []


def test_a_failure_is_told_with_its_reason_and_last_lines(grid: Watched) -> None:
    folder = begin(grid, 3, exit_code=1, reason="out of paper")
    (folder / "output.txt").write_text("".join(f"line {number}\n" for number in range(99)))
    (failed,) = told(grid)["failed"]
    assert (failed["number"], failed["reason"]) == (3, "out of paper")
    assert failed["lines"] == [f"line {number}" for number in range(87, 99)]


def test_the_time_left_is_that_of_what_has_finished(grid: Watched) -> None:
    for number, seconds in ((0, 60.0), (1, 120.0)):
        result = {"status": "finished", "step": 1, "seconds": seconds}
        (begin(grid, number, exit_code=0) / "result.json").write_text(json.dumps(result))
    folder = begin(grid, 2)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0, "elapsed_seconds": 5.0}\n')
        found = told(grid)
        summary = grid.state()["runs"][2]
    assert found["counts"] == {"finished": 2, "running": 1, "waiting": 9}
    assert found["left"] == "0:15:00"  # ten runs of a minute and a half, one at a time
    n_steps = summary["n_steps"]
    assert (summary["state"], summary["step"]) == ("running", 10)
    minutes, seconds = divmod(round(0.5 * (n_steps - 10)), 60)
    assert summary["left"] == f"0:{minutes:02}:{seconds:02}"


def test_settings_are_those_of_the_grid(grid: Watched) -> None:
    state = grid.state()
    assert {"training.seed", "model.d_model"} & set(state["keys"])
    assert all(len(run["values"]) == len(state["keys"]) for run in state["runs"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda folder: ["none"], "none: no such folder; expected the folder of a run"),
        (lambda folder: [str(folder)], "no run is there"),
        (lambda folder: ["--port", "x", str(folder)], "invalid int value"),
        (lambda folder: [f"{folder}/lr=1e-3"], "lr=1e-3: no such folder; a key is of the config of a grid"),
        (lambda folder: [f"{folder}", "d_model=8"], "d_model=8: no such folder; a key is of"),
        (lambda folder: ["apps/memory/config/debug.yaml"], "no section `grid`"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    arguments: Callable[[Path], list[str]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nanollama(["watch", *arguments(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_help_lists_what_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert nanollama(["watch", "--help"]) == 0
    assert "--port" in capsys.readouterr().out


def test_a_folder_without_a_grid_is_not_one() -> None:
    with pytest.raises(UserError, match="expected the folder of a run"):
        watch(["pyproject.toml"])
