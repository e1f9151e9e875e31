"""Folders that cannot be written to: one sentence, exit code 2, and nothing is begun by half."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.conftest import Checkout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small or read-only disk needs root"),
]


def mount(folder: Path, options: str) -> None:
    """A file system of its own in a folder."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture(params=["full", "read-only"])
def disk(request: pytest.FixtureRequest, checkout: Checkout) -> Iterator[str]:
    """The folder ``runs`` of the checkout is on a disk that takes nothing; why, in the system's words."""
    runs = checkout.folder / "runs"
    runs.mkdir()
    if request.param == "full":
        mount(runs, "size=16k")
        (runs / "g").mkdir()
        with pytest.raises(OSError, match="No space left"), open(runs / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        reason = "No space left on device"
    else:
        mount(runs, "ro")
        reason = "Read-only file system"
    yield reason
    subprocess.run(["umount", str(runs)], check=True)


def begun(checkout: Checkout) -> list[str]:
    """The files with content that are there, but the filler."""
    files = (checkout.folder / "runs").rglob("*")
    return [path.name for path in files if path.is_file() and path.stat().st_size and path.name != "filler"]


def test_a_grid_here(checkout: Checkout, disk: str) -> None:
    checkout.write("grid.yaml", "name: g\ngrid: {seeds: 2}\n")
    done = checkout.run("apps.toy.local_grid", "grid.yaml")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("The grid in runs/g cannot be run") and done.stderr.count("\n") == 1
    assert disk in done.stderr
    assert not begun(checkout)


def test_a_submission(checkout: Checkout, disk: str, fake_slurm: Path) -> None:
    for command in ("git init -q .", "git add base.yaml apps"):
        subprocess.run(command.split(), cwd=checkout.folder, check=True)
    checkout.write("grid.yaml", "name: g\ngrid: {seeds: 2}\n")
    done = checkout.run("nanollama.launcher", "grid.yaml")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Nothing was submitted, ") and done.stderr.count("\n") == 1
    assert disk in done.stderr
    assert "sbatch" not in (fake_slurm / "calls").read_text()
    assert not begun(checkout)
