"""Run folders: claimed once, refused to others, removed with care."""

from __future__ import annotations

import fcntl
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from pydantic import Field
from torch import nn

from nanollama.config import Config, RunConfig, config_hash, file_hash, load_config
from nanollama.errors import Preempted, UserError
from nanollama.monitor import locks
from nanollama.monitor.locks import hold_folder
from nanollama.monitor.run_folder import LOCK, Run, check_config, is_held, open_run, read_result
from tests.toy_training import ToyConfig, newest, rows, run_toy, same_end, toy_config


def opened(folder: Path, config: Config | None = None, **options: bool) -> Run:
    with open_run(config or toy_config(folder), folder, device="cpu", **options) as run:
        return run


def begun(folder: Path, config: Config | None = None) -> Run:
    """A run folder that holds work: a row."""
    run = opened(folder, config)
    run.metrics.append({"step": 1, "loss": 1.0})
    return run


def test_the_written_config_gives_the_same_run(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run", overwrite=True)
    run_toy(config)
    written = load_config(type(config), [str(tmp_path / "run" / "config.yaml")])
    assert written == config.model_copy(update={"overwrite": False}), (
        "it must go on with the run, not remove it"
    )
    run_toy(written.model_copy(update={"run_dir": str(tmp_path / "again")}))
    assert same_end(tmp_path / "run", tmp_path / "again")
    assert read_result(tmp_path / "run").config_hash == config_hash(written)


class NewerConfig(ToyConfig):
    """As it is in a later version: with a key more."""

    added: int = Field(default=3, description="A key that runs of old do not have.")


def test_a_run_goes_on_in_a_version_that_knows_a_key_more(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path / "whole"))
    with pytest.raises(Preempted):
        run_toy(toy_config(tmp_path / "cut", max_minutes=1e-9))
    begun = (tmp_path / "cut/metrics.jsonl").read_text()
    run_toy(NewerConfig.model_validate(toy_config(tmp_path / "cut").model_dump()))
    assert begun and (tmp_path / "cut/metrics.jsonl").read_text().startswith(begun)
    assert "Going on from step 1" in (tmp_path / "cut/log.txt").read_text()
    assert same_end(tmp_path / "whole", tmp_path / "cut")


class NamedConfig(RunConfig):
    """A run whose folder comes from its name."""

    seed: int = Field(default=0, description="Of something.")


def test_a_name_that_is_taken_is_told_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = NamedConfig(study="toy", name="debug")
    begun(config.folder, config)
    Path("runs/debug_2").mkdir()
    name = "choose another name, such as name=debug_3"
    with pytest.raises(UserError, match=f"seed is 0 there and 1 here: {name}, or start anew with overwrite="):
        opened(config.folder, config.model_copy(update={"seed": 1}))
    with hold_folder(config.folder, LOCK), pytest.raises(UserError, match=rf"its end, or {name}\.$"):
        opened(config.folder, config)


def test_another_config_is_refused_naming_the_first_difference(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        UserError,
        match=r"belongs to another config, training\.n_steps is 12 there and 13 here: "
        r"choose another run_dir, or start anew with overwrite=true\.$",
    ):
        run_toy(toy_config(tmp_path, n_steps=13))
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    assert {path.name for path in changed} <= {".lock"}


@pytest.mark.parametrize(
    "settings",
    [
        {"max_minutes": 100.0},
        {"n_prefetch": 5},
        {"n_accumulation": 2},
        {"checkpoint": {"every": 5, "keep": 1}},
        {"device": "auto"},
        {"overwrite": False, "compile": False},
    ],
)
def test_keys_that_do_not_change_the_numbers_may_differ(tmp_path: Path, settings: dict[str, object]) -> None:
    first = begun(tmp_path)
    assert opened(tmp_path, toy_config(tmp_path, **settings)).config_hash == first.config_hash


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"log_every": 3},
        {"eval_every": 3},
        {"precision": "auto"},
        {"batch_size": 7},
        {"dropout": 0.1},
    ],
)
def test_keys_that_change_the_rows_may_not(tmp_path: Path, settings: dict[str, object]) -> None:
    begun(tmp_path)
    with pytest.raises(UserError, match=f"another config, (training\\.)?{next(iter(settings))} is "):
        opened(tmp_path, toy_config(tmp_path, **settings))


@pytest.mark.parametrize("edited", ["n_prefetch: 3", "seed: 5"])
@pytest.mark.parametrize("left", ["result.json", "checkpoints"])
def test_a_run_whose_config_was_edited_is_not_begun_from_scratch(
    tmp_path: Path, edited: str, left: str
) -> None:
    folder = tmp_path / "run"
    config = toy_config(folder)
    with open_run(config, folder, device="cpu") as run:
        run.checkpoints.save(4, nn.Linear(1, 1), torch.optim.SGD(nn.Linear(1, 1).parameters()), {}, keep=1)
        run.finish("preempted", 4, 1.0, 2)
    for other in {"result.json", "checkpoints"} - {left}:
        (folder / other).rename(tmp_path / other)
    path = folder / "config.yaml"
    written = path.read_text()
    key = edited.partition(":")[0]
    path.write_text(re.sub(rf"\b{key}: .*", edited, written))
    assert path.read_text() != written
    with pytest.raises(UserError, match=r"config\.yaml has been changed since its run began"):
        opened(folder, load_config(type(config), [str(path)]))
    # A run that an earlier version began from scratch then: a later step of the former one is still there.
    if left == "checkpoints":
        manifest = newest(folder) / "manifest.json"
        text = json.dumps({**json.loads(manifest.read_text()), "config_hash": file_hash(path)})
        shutil.copytree(newest(folder), folder / "checkpoints" / "step_00000002")
        (folder / "checkpoints" / "step_00000002" / "manifest.json").write_text(text)
        assert opened(folder, load_config(type(config), [str(path)])).checkpoints.latest() == 2
        shutil.rmtree(folder / "checkpoints" / "step_00000002")
    path.write_text(f"# a remark\n{written}")
    assert opened(folder, config).checkpoints.steps() == ([4] if left == "checkpoints" else [])


def test_a_run_that_never_began_leaves_the_folder_to_another_config(tmp_path: Path) -> None:
    opened(tmp_path, toy_config(tmp_path, seed=1)).record_data({"people": "one"})
    run = opened(tmp_path, toy_config(tmp_path, seed=2))
    assert load_config(ToyConfig, [str(tmp_path / "config.yaml")]).training.seed == 2
    run.record_data({"people": "two"})
    other = toy_config(tmp_path, seed=4)
    check_config(tmp_path, other)
    run_toy(toy_config(tmp_path, seed=3))
    with pytest.raises(UserError, match="belongs to another config"):
        check_config(tmp_path, other)
    with pytest.raises(UserError, match="belongs to another config"):
        opened(tmp_path, other)


def test_a_config_that_no_run_has_written_is_not_taken_for_one_that_never_began(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "environment.json").unlink()
    with pytest.raises(UserError, match="belongs to another config"):
        opened(tmp_path, toy_config(tmp_path, seed=1))
    path = tmp_path / "config.yaml"
    opened(tmp_path)
    path.write_text("# mine\n" + path.read_text())
    with pytest.raises(UserError, match="belongs to another config"):
        opened(tmp_path, toy_config(tmp_path, seed=1))
    opened(tmp_path)
    assert path.read_text().startswith("# mine")


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    class OtherConfig(Config):
        size: int = Field(default=1, description="Of the other study.")

    begun(tmp_path)
    with pytest.raises(UserError, match="belongs to a run of another kind or version"):
        opened(tmp_path, OtherConfig())


def test_rows_without_a_config_are_not_taken_over(tmp_path: Path) -> None:
    run_toy(toy_config(tmp_path))
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"holds metrics\.jsonl but no config\.yaml"):
        opened(tmp_path)


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    run_toy(config)
    strange = [tmp_path / "notes.txt", tmp_path / "checkpoints" / "mine.txt", tmp_path / "figures" / "a.svg"]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_text("keep me")
    run_toy(toy_config(tmp_path, overwrite=True, n_steps=5))
    assert all(path.read_text() == "keep me" for path in strange)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 4, 5]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "mine.txt",
        "step_00000004",
        "step_00000005",
    ]


def test_overwrite_of_a_new_folder_is_no_error(tmp_path: Path) -> None:
    assert run_toy(toy_config(tmp_path / "new", overwrite=True)).status == "finished"


def test_the_folder_is_locked_against_other_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.toy_training", str(tmp_path)]
    with open_run(toy_config(tmp_path), tmp_path, device="cpu"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is in use by process" in done.stderr and "Traceback" not in done.stderr
    assert opened(tmp_path).result is None  # the lock goes with its owner


def test_asking_whether_a_folder_is_held_keeps_nobody_out(tmp_path: Path) -> None:
    assert is_held(tmp_path) is None
    with open_run(toy_config(tmp_path), tmp_path, device="cpu"):
        assert is_held(tmp_path) is True
    assert is_held(tmp_path) is False
    with open(tmp_path / ".lock", "rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (asking, fcntl.LOCK_UN))
        timer.start()
        assert opened(tmp_path).result is None
        timer.join()


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_folder_that_is_removed_while_a_run_waits_for_it_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made_anew: bool
) -> None:
    folder, take = tmp_path / "run", locks.take_lock

    def remove_and_take(descriptor: int, path: Path) -> bool:
        (folder / ".lock").unlink()
        if is_made_anew:
            (folder / ".lock").touch()
        return take(descriptor, path)

    monkeypatch.setattr(locks, "take_lock", remove_and_take)
    with pytest.raises(UserError, match=r"was in use until just now: start again\."):
        opened(folder)
    monkeypatch.undo()
    assert opened(folder).result is None


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(UserError, match="cannot be made, a file is in its place"):
            opened(folder)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError(30, "Read-only file system"), "Read-only file system"),
    ],
)
def test_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=rf"cannot be made \({reason}\): choose another run_dir\.$"):
        opened(tmp_path / "run")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # stands for missing permission, which root does not know
    with pytest.raises(UserError, match=r"cannot be written to \(Is a directory\): choose another run_dir\."):
        opened(tmp_path)


def test_a_result_that_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    with pytest.raises(UserError, match=r"result\.json is not the result of a run"):
        read_result(tmp_path)
    assert read_result(tmp_path / "missing") is None


def test_data_hashes_are_noted_and_compared(tmp_path: Path) -> None:
    opened(tmp_path).record_data({"people.jsonl": "aa", "qa.jsonl": "bb"})
    run = opened(tmp_path)
    run.record_data({"people.jsonl": "aa", "qa.jsonl": "bb"})
    assert json.loads((tmp_path / "environment.json").read_text())["data"] == {
        "people.jsonl": "aa",
        "qa.jsonl": "bb",
    }
    for hashes in ({"people.jsonl": "aa", "qa.jsonl": "cc"}, {"people.jsonl": "aa"}):
        with pytest.raises(UserError, match=r"The data qa\.jsonl is not what the run .* was started with"):
            run.record_data(hashes)


def test_a_run_is_measured_on_the_same_examples_all_along(tmp_path: Path) -> None:
    opened(tmp_path).record_measured({"valid": "aa"})
    run = opened(tmp_path)
    run.evals.append({"step": 1, "loss_nats": 1.0})
    run.record_measured({"valid": "aa"})
    with pytest.raises(UserError, match=r"to measure on, valid, is not what the run .* was started with"):
        run.record_measured({"valid": "bb"})


def test_a_run_that_has_not_noted_what_it_was_measured_on_is_measured_on_nothing_more(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.evals.append({"step": 1, "loss_nats": 1.0})
    message = r"did not note which examples .*: (go on with the code .*, )?choose another run_dir, "
    with pytest.raises(UserError, match=message):
        run.record_measured({"valid": "aa"})
    run.record_measured({})  # of a study that does not tell
    with open_run(toy_config(tmp_path), tmp_path, device="cpu", overwrite=True) as anew:
        anew.record_measured({"valid": "aa"})


def test_the_environment_is_noted_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path)
    path = tmp_path / "environment.json"
    first = json.loads(path.read_text())
    assert {"started", "command", "versions", "commit", "diff", "untracked", "hardware"} == first.keys()
    assert first["versions"]["torch"] and first["hardware"]["device"] == "cpu"
    path.write_text(json.dumps({**first, "commit": "0123abc"}))
    with caplog.at_level(logging.WARNING, "nanollama"):
        opened(tmp_path)
    assert "was started at commit 0123abc and goes on at" in caplog.text
    second = json.loads(path.read_text())
    assert second["commit"] == "0123abc" and len(second["resumed"]) == 1
    assert second["resumed"][0]["hardware"] == first["hardware"]


def test_a_run_that_stopped_with_an_error_says_so_in_its_log(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(toy_config(tmp_path), tmp_path, device="cpu"):
        1 / 0
    assert "ZeroDivisionError: division by zero" in (tmp_path / "log.txt").read_text()
    with pytest.raises(UserError), open_run(toy_config(tmp_path), tmp_path, device="cpu"):
        raise UserError("The data is missing.")
    assert (tmp_path / "log.txt").read_text().endswith("\nThe data is missing.\n")


def test_half_written_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.tmp").write_text("half")
    (tmp_path / ".result.json.tmp").write_text("half")
    run_toy(toy_config(tmp_path))
    assert newest(tmp_path).name == "step_00000012"
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_result_that_another_process_removes_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text("{}")
    monkeypatch.setattr(Path, "exists", lambda path: True)  # as it was when it was asked
    (tmp_path / "result.json").unlink()
    assert read_result(tmp_path) is None
