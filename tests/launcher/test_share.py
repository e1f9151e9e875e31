"""How runs share a machine: its cores, and the GPUs that whoever started them may see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.launcher.local import share
from nanollama.launcher.local.share import Shares, share_machine
from nanollama.launcher.settings import LocalConfig


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and four GPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(share, "count_gpus", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("outer", "local", "devices", "shares"),
    [
        (None, LocalConfig(), ["cpu"], Shares(8, 1, ())),
        (None, LocalConfig(n_jobs=2), ["cpu"], Shares(2, 4, ())),
        (None, LocalConfig(), [], Shares(8, 1, ())),
        (None, LocalConfig(), ["auto", "cpu"], Shares(4, 2, ("0", "1", "2", "3"))),
        (None, LocalConfig(n_jobs=8), ["cuda"], Shares(8, 1, ("0", "1", "2", "3"))),
        (None, LocalConfig(gpus=(2,)), ["auto"], Shares(1, 8, ("2",))),
        (None, LocalConfig(), ["cuda:1", "cuda:3"], Shares(2, 4, ())),
        ("7, 5,6,4", LocalConfig(gpus=(2, 0)), ["auto"], Shares(2, 4, ("6", "7"))),
        ("GPU-a,GPU-b,GPU-c,GPU-d", LocalConfig(), ["cuda"], Shares(4, 2, tuple(f"GPU-{x}" for x in "abcd"))),
    ],
)
def test_runs_share_cores_and_visible_gpus(
    monkeypatch: pytest.MonkeyPatch,
    outer: str | None,
    local: LocalConfig,
    devices: Sequence[str],
    shares: Shares,
) -> None:
    if outer is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    assert share_machine(local, devices) == shares


def test_a_gpu_that_is_not_visible_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(UserError, match=r"local.gpus: there is no GPU 2 here: .*=3,5 lets .* see 2 of them"):
        share_machine(LocalConfig(gpus=(0, 2)), ["auto"])


def test_torch_counts_gpus_where_there_is_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(share, "DRIVERS", (str(tmp_path / "none"),))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert share.count_gpus() == 0
    monkeypatch.setattr(share, "DRIVERS", (str(tmp_path),))
    assert share.count_gpus() == 0, "torch cannot be asked"
    asked = []

    def answer(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "3\n", "")

    monkeypatch.setattr(subprocess, "run", answer)
    assert share.count_gpus() == 3 and "device_count" in asked[0][-1]
