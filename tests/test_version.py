"""A version names the commit that is there, not the one of an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import nanollama
from nanollama.launcher.slurm.snapshot import take_snapshot
from nanollama.monitor.environment import SNAPSHOT_VARIABLE, describe_environment

ROOT = Path(__file__).parents[1]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    """A commit more; its name."""
    git(folder, "commit", "-q", "--allow-empty", "-m", "More")
    return git(folder, "rev-parse", "--short=9", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package alone, as a checkout without commits."""
    package = tmp_path / "src" / "nanollama"
    package.mkdir(parents=True)
    for path in ("__init__.py", "waiting.py", "version.py"):
        shutil.copy(ROOT / "src" / "nanollama" / path, package)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "src")
    return tmp_path


def version_of(checkout: Path, **variables: str) -> str:
    """What the package there says of itself, asked from elsewhere."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), **variables}
    command = [sys.executable, "-c", "import nanollama; print(nanollama.__version__)"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    return done.stdout.strip()


def test_the_version_of_a_checkout_is_that_of_its_commit(checkout: Path) -> None:
    for n_commits in (1, 2):
        name = commit(checkout)
        assert version_of(checkout) == f"0.1.1.dev{n_commits}+g{name}"
    git(checkout, "tag", "v1.2.3")
    assert version_of(checkout) == "1.2.3"
    name = commit(checkout)
    assert version_of(checkout) == f"1.2.4.dev1+g{name}"


def test_without_git_or_a_checkout_it_is_that_of_the_package(checkout: Path) -> None:
    installed = metadata.version("nanollama")
    assert version_of(checkout) == installed, "no commit yet"
    commit(checkout)
    assert version_of(checkout, PATH="") == installed
    shutil.rmtree(checkout / ".git")
    assert version_of(checkout) == installed


@pytest.mark.parametrize("place", ["lib", "src"])
def test_the_version_is_not_that_of_a_repository_of_something_else(checkout: Path, place: str) -> None:
    other = checkout / "other"
    other.mkdir()
    git(other, "init", "-q")
    commit(other)
    git(other, "tag", "v7.3.0")
    shutil.copytree(checkout / "src", other / place)
    environment = {**os.environ, "PYTHONPATH": str(other / place)}
    command = [sys.executable, "-c", "import nanollama; print(nanollama.__version__)"]
    if place == "lib":  # even where the other repository keeps it
        git(other, "add", place)
        commit(other)
        git(other, "tag", "v7.4.0")
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout.strip() == metadata.version("nanollama")


def test_a_shallow_clone_counts_no_commits(checkout: Path, tmp_path: Path) -> None:
    commit(checkout)
    git(checkout, "tag", "v1.2.3")
    name = commit(checkout)
    for depth, said in ((1, f"0+g{name}"), (2, f"1.2.4.dev1+g{name}")):
        clone = tmp_path / f"clone{depth}"
        git(tmp_path, "clone", "-q", f"--depth={depth}", f"file://{checkout}", str(clone))
        assert version_of(clone) == said


def test_a_copy_of_the_code_has_the_version_of_what_was_copied(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = commit(checkout)
    monkeypatch.chdir(checkout)
    code = take_snapshot(tmp_path / "submission")
    commit(checkout)
    assert version_of(code) == f"0.1.1.dev1+g{name}"
    note = code.parent / "snapshot.json"
    monkeypatch.setenv(SNAPSHOT_VARIABLE, str(note))
    found = describe_environment(torch.device("cpu"), 1)
    assert found["commit"].startswith(name) and "version" not in found
    for text in ("[]", "{", '{"version": null}', '{"commit": "a"}'):  # the last one as of old
        note.write_text(text)
        assert version_of(code) == metadata.version("nanollama")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_what_a_run_was_made_with_names_the_version_of_its_commit() -> None:
    found = describe_environment(torch.device("cpu"), 1)
    assert found["versions"]["nanollama"] == nanollama.__version__
    name = nanollama.__version__.rpartition("+g")[2]
    assert git(ROOT, "rev-parse", "HEAD").startswith(name) or git(ROOT, "tag", "--points-at", "HEAD")


def test_git_is_not_asked_before_a_version_is_wanted(tmp_path: Path) -> None:
    spy = tmp_path / "git"
    spy.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 1\n")
    spy.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    for arguments, is_asked in (("--help", False), ("--version", (ROOT / ".git").exists())):
        command = [sys.executable, "-m", "nanollama", arguments]
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=ROOT)
        assert (tmp_path / "asked").exists() is is_asked
