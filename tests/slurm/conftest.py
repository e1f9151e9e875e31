"""A Slurm that is started for these tests, and what they ask of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launcher.conftest import Checkout, make_checkout

START = Path(__file__).parent / "start_slurm.sh"
LAUNCH = "nanollama.launcher"
PATIENCE_SECONDS = 600

NEEDS_SLURM = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in ("slurmctld", "slurmd", "munged", "sbatch")),
        reason="no Slurm here: it needs the packages slurm-wlm and munge",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="starting a Slurm needs root"),
]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of the configuration of a running Slurm."""
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents):  # munge's own user must reach its socket
        if parent.stat().st_uid == 0 and parent != Path(parent.anchor):
            parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(["bash", str(START), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield done.stdout.strip()
    subprocess.run(["bash", str(START), "--stop", str(folder)], check=True)


@pytest.fixture(scope="module")
def cluster(slurm: str, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout under git on a machine with Slurm."""
    checkout = make_checkout(tmp_path_factory.mktemp("cluster") / "a checkout")
    checkout.environment["SLURM_CONF"] = slurm
    (checkout.folder / ".gitignore").write_text("runs/\n")
    for command in ("git init -q .", "git add -A", "git -c user.name=n -c user.email=e commit -q -m first"):
        subprocess.run(command.split(), cwd=checkout.folder, check=True)
    return checkout


def ask(cluster: Checkout, *command: str) -> str:
    """Output of a command of Slurm."""
    environment = {**os.environ, **cluster.environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def queue(cluster: Checkout, *options: str) -> list[str]:
    """Slurm's numbers of the jobs it holds."""
    return ask(cluster, "squeue", "--noheader", "--array", "--format=%i", *options).split()


def wait(cluster: Checkout, ready: Callable[[], bool]) -> None:
    """Until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        assert time.monotonic() < end, ask(cluster, "squeue")
        time.sleep(0.2)


def wait_for_end(cluster: Checkout, job: str) -> None:
    """Until Slurm has nothing more to do for a job or an array."""
    wait(cluster, lambda: not any(number.partition("_")[0] == job for number in queue(cluster)))


def status(cluster: Checkout, config: str) -> str:
    return cluster.run("nanollama", "grid", "status", config).stdout


def launch(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "launch.json").read_text())
    return found
