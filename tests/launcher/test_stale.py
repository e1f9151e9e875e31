"""Runs that start from others: what they are worth when those are others now, and when they go on alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from nanollama.config import Config
from nanollama.errors import UserError
from nanollama.launcher.attempts import Launch, write_launch
from nanollama.launcher.grid import commands
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.local.pool import Line
from nanollama.launcher.local.run import Choice, check_runs
from nanollama.launcher.plan import Plan
from nanollama.launcher.screen import state_lines
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.launcher.states import KINDS, Kind, State, check_folder, inspect, parents_first
from nanollama.monitor.origin import origin_of, record_origin
from nanollama.monitor.successor import cancel_order, order_anew
from nanollama.training.intervention_config import LoadConfig

GONE: dict[str, Any] = {"host": socket.gethostname(), "pid": 2**22 + 1}


class Child(Config):
    """Like the config of a run of training that starts from another."""

    training: int = 0
    interventions: tuple[LoadConfig, ...] = ()


def leave(folder: Path, step: int, weights: str, status: str = "finished", config_hash: str = "c") -> Path:
    """What a run leaves that has come to a step; its checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint = folder / "checkpoints" / f"step_{step:08d}"
    checkpoint.mkdir(parents=True)
    files = {"model.safetensors": {"sha256": weights, "n_bytes": 1}}
    manifest = {"version": 1, "step": step, "config_hash": config_hash, "files": files}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    result = {"status": status, "step": step, "config_hash": config_hash}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "environment.json").write_text("{}")
    return checkpoint


@pytest.fixture
def child(tmp_path: Path) -> GridRun:
    """A finished run that began from the step 15 of a finished one."""
    parent = tmp_path / "parent"
    checkpoint = leave(parent, 15, "a")
    leave(tmp_path / "child", 10, "b")
    record_origin(tmp_path / "child", "interventions.0", origin_of(parent, 0, checkpoint))
    config = Child(interventions=(LoadConfig(implementation="load", run=parent),))
    return GridRun("child", tmp_path / "child", config, {}, ("parent",))


def test_a_run_is_stale_when_what_it_began_from_was_trained_anew(child: GridRun) -> None:
    parent = child.folder.parent / "parent"
    assert inspect(child).kind == "finished"
    leave(parent, 12, "d", config_hash="edited")
    assert inspect(child).kind == "stale"
    assert inspect(child).reason == f"it began from {parent}, but it had done 15 steps then, and 12 now"
    with pytest.raises(
        UserError, match=r"child in .* is stale, .*: remove its folder, or start it anew with"
    ):
        check_folder(child, inspect(child))
    lines = [*state_lines({"child": inspect(child)}, 5)]
    assert lines[0].startswith("stale     child: it began from") and "overwrite=true" in lines[-1]
    leave(parent, 15, "d")
    assert inspect(child).reason.endswith("but it was trained anew since")
    leave(parent, 15, "a", config_hash="edited")
    assert inspect(child).kind == "finished", "these are the weights that it began from"
    leave(parent, 12, "d")
    order_anew(child.folder)
    assert inspect(child).kind == "waiting", "it will begin anew"


@pytest.mark.parametrize(("overwrite", "kinds"), [(False, {"failed"}), (True, {"failed", "stale"})])
def test_what_is_stale_does_not_keep_what_has_failed_from_going_on(
    child: GridRun, overwrite: bool, kinds: set[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = child.folder.parent / "parent"
    leave(parent, 12, "d")
    plan = Plan(
        "g", parent.parent, "apps.toy.train", [child], "seed", overwrite, LocalConfig(), SlurmConfig()
    )
    asked: dict[str, Any] = {}

    def run_missing(plan: Plan, choose: Choice) -> int:
        asked["choose"] = choose
        return 0

    monkeypatch.setattr(commands, "read_grid", lambda argv: plan)
    monkeypatch.setattr(commands, "run_missing", run_missing)
    assert commands.retry(["grid.yaml"]) == 0
    assert {kind for kind in KINDS if asked["choose"](child, State(kind, {}))} == kinds
    order_anew(child.folder)
    assert asked["choose"](child, State("failed", {})) == overwrite, "it replaces nothing by itself"
    cancel_order(child.folder)
    states = {"child": inspect(child)}
    check_runs(plan, [], states)
    if overwrite:
        check_runs(plan, [child], states)
    else:
        with pytest.raises(UserError, match=r"child in .* is stale"):
            check_runs(plan, [child], states)


def test_what_contradicts_nothing_leaves_a_run_finished(child: GridRun) -> None:
    parent = child.folder.parent / "parent"
    leave(parent, 5, "d", status="preempted")
    assert inspect(child).kind == "finished", "the other has not come so far"
    shutil.rmtree(parent)
    assert inspect(child, None, {"parent": State("waiting", {})}).kind == "finished"
    leave(parent, 12, "d")
    (child.folder / "environment.json").write_text("{}")
    assert inspect(child).kind == "finished", "from before it was noted"


def test_what_starts_from_a_stale_run_is_stale(child: GridRun) -> None:
    state = inspect(child, None, {"parent": State("stale", {})})
    assert (state.kind, state.reason) == ("stale", "it began from parent, but it is stale itself")


@pytest.mark.parametrize(("at_step", "kind"), [(0, "stale"), (9, "stale"), (10, "stopped"), (11, "stopped")])
def test_a_run_on_its_way_is_stale_once_a_checkpoint_holds_what_it_loaded(
    child: GridRun, at_step: int, kind: Kind
) -> None:
    parent = child.folder.parent / "parent"
    record_origin(
        child.folder,
        "interventions.0",
        origin_of(parent, at_step, parent / "checkpoints" / "step_00000015"),
    )
    (child.folder / "result.json").write_text(json.dumps({"status": "preempted"}))
    write_launch(child.folder, Launch(exit_code=75))
    assert inspect(child).kind == "stopped"
    leave(parent, 15, "d")
    assert inspect(child).kind == kind
    write_launch(child.folder, Launch(host=socket.gethostname(), pid=os.getpid()))
    assert inspect(child).kind == "running"


@pytest.mark.parametrize("parent", ["failed", "waiting", "stopped"])
def test_a_run_that_has_loaded_goes_on_whatever_became_of_what_it_began_from(
    child: GridRun, parent: Kind
) -> None:
    (child.folder / "result.json").unlink()
    write_launch(child.folder, Launch(**GONE))
    states = {"parent": State(parent, {})}
    assert inspect(child, None, states) == State("waiting", {})
    first = GridRun("parent", child.folder.parent / "parent", Child(), {})
    line = Line([first, child])
    assert [line.take().name, line.take().name] == ["parent", "child"]
    assert not [*line.drop("parent")] and line.n_waiting == 0
    assert parents_first([child], (), {"child"}) == ([child], [])
    order_anew(child.folder)
    line = Line([first, child])
    assert line.take().name == "parent" and not line, "begun anew, it loads again"
    assert [run.name for run, _ in line.drop("parent")] == ["child"]
    shutil.rmtree(child.folder / "checkpoints")
    (child.folder / ".anew").unlink()
    assert inspect(child, None, states).kind == ("failed" if parent == "failed" else "waiting")
    assert inspect(child, None, states).reason
