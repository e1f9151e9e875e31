"""What is noted about the surroundings of a run, with and without git."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from nanollama.monitor import environment
from nanollama.monitor.environment import describe_environment

CPU = torch.device("cpu")


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def test_outside_of_a_repository(folder: Path) -> None:
    found = describe_environment(CPU, 1)
    assert found["commit"] is None and found["diff"] is None


def test_commit_and_diff_of_tracked_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    (folder / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-qm", "first")
    assert describe_environment(CPU, 1)["diff"] == ""
    (folder / "a.txt").write_text("two\n")
    (folder / "untracked.txt").write_text("secret\n")
    (folder / "apps").mkdir()
    (folder / "apps" / "new.py").write_text("new\n")
    found = describe_environment(CPU, 1)
    assert found["commit"] == git("rev-parse", "HEAD")
    assert "-one\n+two" in found["diff"] and "secret" not in found["diff"]
    assert found["untracked"] == {"apps/new.py": sha256(b"new\n").hexdigest()}
    monkeypatch.setattr(environment, "MAX_DIFF_CHARS", 20)
    assert describe_environment(CPU, 1)["diff"].endswith("characters]")


def test_without_git_and_without_cpuinfo(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "missing")
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "a-package-nobody-has"))
    found = describe_environment(CPU, 2)
    assert found["commit"] is None
    assert found["versions"]["a-package-nobody-has"] is None
    assert found["hardware"]["world_size"] == 2
