"""A run that starts anew: the old one stays until it has begun, whatever happens before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from nanollama.errors import UserError
from nanollama.monitor import successor
from nanollama.monitor.run_folder import open_run, read_result
from nanollama.monitor.successor import (
    MOVING,
    ORDER,
    REPLACED,
    WRITTEN,
    order_anew,
    own_folders,
    settle,
    succeed,
)
from tests.toy_training import ToyEvaluator, run_toy, same_end, toy_config

OWN = (".lock", ORDER)


def finished(folder: Path) -> dict[str, bytes]:
    """A finished run beside files of a user's own; its content."""
    run_toy(toy_config(folder))
    written = ("track/events", "evaluations/of/result.json", "trainer/checkpoint-4/optimizer.pt")
    for name in ("notes.txt", "checkpoints/mine.txt", "model/mine.txt", "tokenizer/mine.txt", *written):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    """What the files of a folder hold, hidden ones too."""
    files = (Path(at) / name for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in OWN}


def folders(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_dir()}


@pytest.mark.parametrize("settings", [{}, {"n_steps": 5}])
@pytest.mark.parametrize(
    "error", [UserError("The data is missing."), KeyboardInterrupt(), RuntimeError("no")]
)
def test_a_run_that_is_refused_at_its_start_leaves_what_it_was_to_replace(
    tmp_path: Path, settings: dict[str, Any], error: BaseException
) -> None:
    before = finished(tmp_path)
    config = toy_config(tmp_path, overwrite=True, **settings)
    with (
        pytest.raises(type(error)),
        open_run(config, tmp_path, device="cpu", overwrite=True) as run,
    ):
        assert run.result is None and not run.checkpoints.steps()
        moved = {"track", "evaluations", "trainer"}
        assert not {path.name for path in tmp_path.iterdir()} & moved
        assert moved <= folders(tmp_path / REPLACED)
        run.evals.append({"step": 0, "draw": 0.5})  # before its first step
        (tmp_path / "track").mkdir()
        (tmp_path / "track/events").write_text("new")
        raise error
    assert content(tmp_path) == before
    assert not folders(tmp_path) & {REPLACED, MOVING}


def test_a_run_that_is_refused_in_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    for name, error in (("refused", UserError("No such data.")), ("broken", RuntimeError("no"))):
        config = toy_config(tmp_path / name)
        with pytest.raises(type(error)), open_run(config, tmp_path / name, device="cpu") as run:
            run.evals.append({"step": 0, "draw": 0.5})
            raise error
    assert content(tmp_path / "refused") == {}
    assert {"config.yaml", "evals.jsonl"} <= set(content(tmp_path / "broken"))


def test_a_run_that_is_refused_after_it_began_or_beside_other_files_stays(tmp_path: Path) -> None:
    for name in ("begun", "launched"):
        config = toy_config(tmp_path / name)
        (tmp_path / name).mkdir()
        if name == "launched":
            (tmp_path / name / "launch.json").write_text("{}")
        with pytest.raises(UserError), open_run(config, tmp_path / name, device="cpu") as run:
            if name == "begun":
                run.metrics.append({"step": 1, "loss": 1.0})
            raise UserError("No such data.")
        assert (tmp_path / name / "config.yaml").exists()


def test_what_is_replaced_goes_with_the_first_row(tmp_path: Path) -> None:
    finished(tmp_path)
    order_anew(tmp_path)
    seen: list[bool] = []

    class Looks(ToyEvaluator):
        def evaluate(self, model: Any, step: int) -> dict[str, float]:
            seen.append(bool(folders(tmp_path) & {REPLACED, MOVING}) or (tmp_path / ORDER).exists())
            return super().evaluate(model, step)

    class FirstStepFails(ToyEvaluator):
        def evaluate(self, model: Any, step: int) -> dict[str, float]:
            raise RuntimeError("no")

    run_toy(toy_config(tmp_path, overwrite=True, eval_every=4, n_steps=8), evaluators=[Looks()])
    assert seen == [False, False]
    with pytest.raises(RuntimeError):  # after four steps: it has begun
        run_toy(toy_config(tmp_path, overwrite=True, eval_every=4), evaluators=[FirstStepFails()])
    assert read_result(tmp_path) is None and not folders(tmp_path) & {REPLACED, MOVING}
    assert (tmp_path / "checkpoints/mine.txt").exists()


class Killed(BaseException):
    """Stands for SIGKILL: nothing is moved from here on."""


def kill_at(monkeypatch: pytest.MonkeyPatch, n_moves: int) -> None:
    """Let the process be dead after so many moves."""
    left = [n_moves]
    rename = os.rename

    def move(source: Path, target: Path) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        rename(source, target)

    monkeypatch.setattr(successor.os, "rename", move)


@pytest.mark.parametrize("linked", [False, True])
def test_a_start_anew_that_is_killed_at_any_moment_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    folder = tmp_path / "run"
    if linked:
        (tmp_path / "disk").mkdir()
        folder.mkdir()
        (folder / "checkpoints").symlink_to(tmp_path / "disk")
    before = finished(folder)
    for n_moves in range(100):
        kill_at(monkeypatch, n_moves)
        try:
            with succeed(folder, anew=True):
                (folder / "config.yaml").write_text("new")
                raise UserError("no")
        except Killed:
            monkeypatch.undo()
        except UserError:
            break
        settle(folder)
        assert content(folder) == before
        assert not folders(folder) & {REPLACED, MOVING}
    assert n_moves == 24, "six files, three folders, two checkpoints and the folder itself, aside and back"
    assert (folder / "checkpoints").is_symlink() == linked


def test_a_new_run_that_was_killed_after_it_began_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(toy_config(tmp_path / "whole", seed=1))
    folder = tmp_path / "run"
    finished(folder)
    monkeypatch.setattr(successor, "drop_replaced", lambda folder: None)
    monkeypatch.setattr("nanollama.monitor.run_folder.drop_replaced", lambda folder: None)
    run_toy(toy_config(folder, seed=1, overwrite=True))
    monkeypatch.undo()
    for name in ("result.json", "checkpoints/step_00000012"):
        path = folder / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    assert (folder / REPLACED / "result.json").exists()
    run_toy(toy_config(folder, seed=1))
    assert same_end(tmp_path / "whole", folder)
    assert not folders(folder) & {REPLACED, MOVING}


def test_a_run_that_starts_anew_twice_before_it_begins_replaces_the_first(tmp_path: Path) -> None:
    before = finished(tmp_path)
    successor._set_aside(tmp_path)  # by a process that was killed then
    (tmp_path / "config.yaml").write_text("new")
    with pytest.raises(UserError), open_run(toy_config(tmp_path), tmp_path, device="cpu", overwrite=True):
        raise UserError("no")
    assert content(tmp_path) == before
    successor._set_aside(tmp_path)
    with pytest.raises(UserError, match="belongs to another config"):
        run_toy(toy_config(tmp_path, seed=2))
    assert content(tmp_path) == before


RESOLVED = "study: toy\noverwrite: false\ntraining: {n_steps: 1}\n"
OF_PRETRAINED = RESOLVED + "model: {implementation: hugging_face, path: %s}\n"


@pytest.mark.parametrize(
    ("config", "own"),
    [
        (RESOLVED + "model: {implementation: transformer}\n", {"track"}),
        (OF_PRETRAINED % "null", {"track", "model"}),
        (OF_PRETRAINED % "gpt2", {"track", "tokenizer"}),
        ("model: {", {"track"}),
        ("- model\n", {"track"}),
    ],
)
def test_a_model_or_a_tokenizer_belongs_to_a_run_that_makes_one(
    tmp_path: Path, config: str, own: set[str]
) -> None:
    (tmp_path / "config.yaml").write_text(config)
    for name in ("model", "tokenizer", "track", "src"):
        (tmp_path / name).mkdir()
    assert set(own_folders(tmp_path)) == own


USERS = ("config.yaml", "log.txt", "metrics.jsonl", "model/weights.bin", "tokenizer/vocabulary.txt")


@pytest.mark.parametrize("config", ["lr: 1\n", "study: mine\ntraining: {lr: 1}\n", "training: [\n"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_files_that_no_run_wrote_are_not_replaced(tmp_path: Path, config: str, overwrite: bool) -> None:
    for name in USERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(config)
    (tmp_path / "environment.json").write_text('{"versions": {"python": "3"}}')
    before = content(tmp_path)
    with pytest.raises(UserError) as error:
        run_toy(toy_config(tmp_path, overwrite=overwrite))
    told = str(error.value)
    assert "holds a config.yaml that no run wrote" in told and told.endswith(": choose another run_dir.")
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["log.txt", "tokenizer.json", "track/events"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_no_run_begins_among_files_that_it_would_write(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = content(tmp_path)
    with pytest.raises(UserError, match=f"holds a {name.split('/')[0]} that no run wrote: choose another"):
        run_toy(toy_config(tmp_path, overwrite=overwrite))
    assert content(tmp_path) == before


def test_a_run_that_was_killed_as_soon_as_its_config_stood_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(RESOLVED)
    run_toy(toy_config(tmp_path, overwrite=True))
    assert read_result(tmp_path) is not None


def test_no_run_works_on_the_checkpoints_of_another(tmp_path: Path) -> None:
    finished(tmp_path / "mine")
    before = content(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "checkpoints").symlink_to(tmp_path / "mine" / "checkpoints")
    for overwrite in (True, False):
        with pytest.raises(UserError, match="is a link into the folder of another run"):
            run_toy(toy_config(tmp_path / "theirs", overwrite=overwrite))
    assert content(tmp_path / "mine") == before


def test_the_files_of_a_run_are_listed(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path))
    names = {path.name for path in tmp_path.iterdir()} - {".lock", "checkpoints"}
    assert names <= set(WRITTEN)
