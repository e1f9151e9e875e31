"""Checkpoints: exact, complete or absent, and never trusted without their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nanollama.distributed import World
from nanollama.errors import UserError
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import (
    Checkpointer,
    DamagedCheckpoint,
    find_checkpoint,
    load_training,
    load_weights,
)
from nanollama.training.learner import Learner
from nanollama.training.optim import OptimizerConfig
from tests.toy_training import ToyModel, ToyStream, same_values, toy_loss


def trained(seed: int = 0) -> Learner:
    learner = Learner(ToyModel(seed), toy_loss, OptimizerConfig(), World(torch.device("cpu")))
    learner.backward(ToyStream(4).batch(0))
    learner.clip()
    learner.update(0.1)
    return learner


def save(checkpoints: Checkpointer, step: int, keep: int | None = None) -> Path:
    learner = trained(step)
    return checkpoints.save(step, learner.model, learner.optimizer, {"step": step, "half": 1 / 3}, keep)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpointer:
    return Checkpointer(tmp_path / "run" / "checkpoints", "abc")


def test_what_is_saved_is_loaded_bit_for_bit(checkpoints: Checkpointer) -> None:
    path = save(checkpoints, 3)
    assert path.name == "step_00000003"
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.pt",
        "state.json",
    ]
    original, copy = trained(3), trained(9)
    load_weights(path, copy.model)
    assert load_training(path, copy.optimizer) == {"step": 3, "half": 1 / 3}
    assert same_values(original.model.state_dict(), copy.model.state_dict())
    assert same_values(original.optimizer.state_dict(), copy.optimizer.state_dict())
    assert copy.model.head.weight is copy.model.embedding.weight, "a tied matrix stays one"


def test_weights_load_alone(checkpoints: Checkpointer) -> None:
    model = ToyModel(9)
    load_weights(save(checkpoints, 3), model)
    assert same_values(model.state_dict(), trained(3).model.state_dict())


def test_the_newest_are_kept(checkpoints: Checkpointer) -> None:
    for step in (1, 2, 3, 4):
        save(checkpoints, step, keep=2)
    assert checkpoints.steps() == [3, 4] and checkpoints.latest() == 4
    save(checkpoints, 5, keep=None)
    assert checkpoints.steps() == [3, 4, 5]
    assert not list(checkpoints.folder.glob(".*"))


def test_no_checkpoints(checkpoints: Checkpointer) -> None:
    assert checkpoints.steps() == [] and checkpoints.latest() is None
    checkpoints.clean()


def cut_weights(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    file = path / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def edit_manifest(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))

    return edit


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut_weights, r"model\.safetensors has \d+ bytes, expected \d+"),
    "flipped bit": (flip_a_bit, r"the content of optimizer\.pt has changed"),
    "missing file": (lambda path: (path / "state.json").unlink(), r"state\.json is missing"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), r"its manifest\.json cannot be read"),
    "torn manifest": (lambda path: (path / "manifest.json").write_text("{"), r"cannot be read"),
    "other manifest": (lambda path: (path / "manifest.json").write_text("[]"), r"cannot be read"),
    "other version": (edit_manifest(version=9), r"format version 9, this program reads 1"),
    "no config": (
        lambda path: (path / "manifest.json").write_text('{"version": 1, "files": {}}'),
        r"cannot be read",
    ),
    "no files": (edit_manifest(files={}), r"is none: expected the step, and size and hash of model"),
    "files elsewhere": (edit_manifest(files={"../../x": {"n_bytes": 1, "sha256": ""}}), r"is none"),
    "files that are none": (edit_manifest(files={"model.safetensors": 1}), r"is none"),
    "no step": (edit_manifest(step=None), r"is none"),
    "brackets without end": (lambda path: (path / "manifest.json").write_text("[" * 99_999), "cannot be"),
    "other config": (edit_manifest(config_hash="xyz"), r"belongs to another config"),
    "empty folder": (lambda path: [file.unlink() for file in path.iterdir()], r"cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(
    checkpoints: Checkpointer, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    spoil, message = DAMAGES[damage]
    spoil(newest)
    with pytest.raises(DamagedCheckpoint, match=message):
        checkpoints.verify(newest)
    with caplog.at_level(logging.WARNING, "nanollama"):
        assert checkpoints.latest() == 1
    assert "Skipped the checkpoint" in caplog.text and "step_00000002" in caplog.text
    assert newest.is_dir(), "it is left for whoever wants to look at it"
    save(checkpoints, 2, keep=2)  # the run comes to its step again
    assert checkpoints.latest() == 2 and checkpoints.steps() == [1, 2]


def test_a_damaged_newer_checkpoint_does_not_take_the_place_of_one_that_is_kept(
    checkpoints: Checkpointer,
) -> None:
    for step in (1, 9):
        save(checkpoints, step)
    cut_weights(checkpoints.path(9))
    save(checkpoints, 2, keep=1)
    assert checkpoints.steps() == [2, 9] and checkpoints.latest() == 2


def test_when_all_are_damaged_none_is_found(checkpoints: Checkpointer) -> None:
    cut_weights(save(checkpoints, 1))
    assert checkpoints.latest() is None


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(checkpoints: Checkpointer) -> None:
    save(checkpoints, 1)
    for name in (".step_00000002.new", ".step_00000001.old", ".mine", "notes", "step_7"):
        (checkpoints.folder / name).mkdir()
    mine = [".mine", "notes", "step_7"]
    checkpoints.clean()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == sorted([*mine, "step_00000001"])


def test_of_a_checkpoint_that_is_a_link_the_link_is_removed(
    checkpoints: Checkpointer, tmp_path: Path
) -> None:
    other = save(Checkpointer(tmp_path / "other"), 1)
    checkpoints.folder.mkdir(parents=True)
    for name in ("step_00000001", ".step_00000003.new"):
        (checkpoints.folder / name).symlink_to(other)
    checkpoints.clean()
    (checkpoints.folder / ".step_00000001.old").symlink_to(other)
    save(checkpoints, 2, keep=1)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step_00000002"]
    assert len(list(other.iterdir())) == 4


def test_a_checkpoint_is_found_by_its_run_or_by_itself(checkpoints: Checkpointer) -> None:
    run = checkpoints.folder.parent
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    assert find_checkpoint(run) == newest
    assert find_checkpoint(checkpoints.path(1)) == checkpoints.path(1)
    cut_weights(newest)
    assert find_checkpoint(run) == checkpoints.path(1)
    with pytest.raises(
        UserError, match=r"step_00000002 is damaged: model\.safetensors has .* Choose another step"
    ):
        find_checkpoint(newest)
    shutil.rmtree(checkpoints.folder)
    with pytest.raises(UserError, match="holds no intact checkpoint: expected a run folder"):
        find_checkpoint(run)


def test_all_is_forced_to_disk_before_the_checkpoint_has_its_name(
    checkpoints: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: list[str] = []

    def logged(owner: object, name: str) -> None:
        act = getattr(owner, name)

        def record(path: Path, *arguments: object) -> None:
            acts.append(f"{name} {path.name}")
            act(path, *arguments)

        monkeypatch.setattr(owner, name, record)

    for name in ("sync_file", "write_atomically", "sync_folder"):
        logged(checkpoint, name)
    logged(os, "rename")
    save(checkpoints, 1)
    assert acts == [
        "sync_file model.safetensors",
        "sync_file optimizer.pt",
        "sync_file state.json",
        "write_atomically manifest.json",
        "rename .step_00000001.new",
        "sync_folder checkpoints",
    ]


def test_what_a_killed_save_left_is_not_in_the_way(checkpoints: Checkpointer) -> None:
    save(checkpoints, 1)
    save(checkpoints, 2)
    cut_weights(checkpoints.path(2))
    for name in (".step_00000001.old", ".step_00000002.new", ".step_00000002.old"):
        (checkpoints.folder / name).mkdir()
        (checkpoints.folder / name / "leftover").touch()
    path = save(checkpoints, 2, keep=1)
    assert checkpoints.steps() == [2] and checkpoints.latest() == 2
    assert not (path / "leftover").exists() and not list(checkpoints.folder.glob(".*"))


def test_the_hash_is_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192 + b"more than two blocks"
    (tmp_path / "file").write_bytes(content)
    found = checkpoint.fingerprint(tmp_path / "file")
    assert found == {"sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content)}


def test_a_full_disk_is_told_in_the_words_of_the_system_where_a_library_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("unexpected pos 122304 vs 122192")  # as torch.save does

    def full(dir: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(RuntimeError, match="unexpected pos"):  # there is room: it is something else
        Checkpointer(tmp_path).save(1, nn.Linear(2, 2), torch.optim.SGD(nn.Linear(2, 2).parameters()), {})
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OSError, match="No space left on device"):
        Checkpointer(tmp_path).save(1, nn.Linear(2, 2), torch.optim.SGD(nn.Linear(2, 2).parameters()), {})


@pytest.mark.parametrize("n_bytes", [1000, 3_000_000, 6_000_000])
def test_files_that_may_not_grow_are_told_in_the_words_of_the_system(tmp_path: Path, n_bytes: int) -> None:
    """By a real limit, in a process of its own; torch and safetensors have words of their own for it."""
    code = """
import resource, sys
from pathlib import Path
from torch import nn, optim
from nanollama.monitor.checkpoint import Checkpointer
model = nn.Linear(1000, 1000)
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
optimizer.state[model.weight]["momentum_buffer"] = [model.weight.detach(), model.weight.detach() + 1]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    Checkpointer(Path(sys.argv[1])).save(1, model, optimizer, {})
except OSError as error:
    print(error.strerror)
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(n_bytes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "File too large\n", done.stderr
