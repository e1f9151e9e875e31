"""A checkout with one study, for tests that start processes in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NO_DRAWING = ROOT / "tests" / "no_drawing"
BASE = """\
study: toy
name: base
training:
  n_steps: 12
  batch_size: 6
  log_every: 2
  eval_every: 4
  precision: float32
  checkpoint: {every: 4}
  optimizer: {learning_rate: 0.03, warmup_steps: 2}
"""


@dataclass
class Checkout:
    """A working directory with ``apps/toy`` and ``base.yaml``.

    Args:
        folder: where it is.
        environment: of its processes, beside that of the tests.
        draws: do grids that have finished draw their page? It takes seconds, so those that ask for it alone.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    draws: bool = False

    def write(self, name: str, text: str) -> Path:
        """A config that builds on ``base.yaml``."""
        path = self.folder / name
        path.write_text(f"base: base.yaml\n{text}", encoding="utf-8")
        return path

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``python -m command``."""
        places = [*([] if self.draws else [NO_DRAWING]), ROOT / "src", ROOT]
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, places)),
                "OMP_NUM_THREADS": "1",
                **self.environment,
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """``python -m command``, to its end."""
        with self.popen(*command) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def result(self, run: str) -> dict[str, Any]:
        """``result.json`` of a run folder under ``runs/``."""
        return json.loads((self.folder / "runs" / run / "result.json").read_text(encoding="utf-8"))


def make_checkout(folder: Path) -> Checkout:
    """A checkout in a new folder."""
    shutil.copytree(
        Path(__file__).parent / "toy_study",
        folder / "apps" / "toy",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "apps" / "__init__.py").touch()
    (folder / "base.yaml").write_text(BASE, encoding="utf-8")
    return Checkout(folder)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout of a test's own, in a folder whose name has a space."""
    return make_checkout(tmp_path / "a checkout")


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of a Slurm that has the partitions gpu and cpu and refuses every job; they note their calls.

    Its largest array has three tasks, and it accepts the first job when there is a file ``kind``.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    refuse = "echo 'sbatch: error: Invalid account or account/partition combination' >&2; exit 1"
    for name, code in {
        "srun": "exit 0",
        "sinfo": "printf 'gpu\\ncpu\\n'",
        "squeue": "exit 0",
        "scontrol": "echo 'MaxArraySize = 3'",
        "scancel": "exit 0",
        "sbatch": f"rm {folder}/kind 2>/dev/null && echo 12 || {{ {refuse}; }}",
    }.items():
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{code}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder
