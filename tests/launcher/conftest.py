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
    """A working directory with ``apps/toy`` and ``base.yaml``."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> Path:
        """A config that builds on ``base.yaml``."""
        path = self.folder / name
        path.write_text(f"base: base.yaml\n{text}", encoding="utf-8")
        return path

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``python -m command``."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
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


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in a folder of its own."""
    folder = tmp_path / "a checkout"
    shutil.copytree(
        Path(__file__).parent / "toy_study",
        folder / "apps" / "toy",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "apps" / "__init__.py").touch()
    (folder / "base.yaml").write_text(BASE, encoding="utf-8")
    return Checkout(folder)
