"""How the runs of a grid share this machine: so many at a time, with so many threads, on these GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from nanollama.errors import UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.settings import LocalConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Files of the drivers of GPUs (NVIDIA's, AMD's, that of Windows); without one of them there is none."""


@dataclass(frozen=True)
class Shares:
    """What each of the runs gets.

    Args:
        n_jobs: runs at a time.
        n_threads: of each.
        gpus: as `CUDA_VISIBLE_DEVICES` names them, one a run; none: runs see all there are.
    """

    n_jobs: int
    n_threads: int
    gpus: tuple[str, ...]


def devices_of(runs: Iterable[GridRun]) -> set[str]:
    """The devices that runs ask for, such as `auto`; that of a run which does not train is not known."""
    return {run.training.device for run in runs if run.training is not None}


def share_machine(local: LocalConfig, devices: Collection[str]) -> Shares:
    """Share this machine out among runs.

    Args:
        local: what the config says about it.
        devices: that the runs ask for.

    Raises:
        UserError: `local.gpus` names a GPU that is not visible.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = {device for device in devices if device.startswith("cuda:")}
    gpus = _named_gpus(local.gpus)
    if not gpus and not chosen and not {"auto", "cuda"}.isdisjoint(devices):
        gpus = _visible_gpus(count_gpus())
    n_jobs = local.n_jobs or len(gpus) or len(chosen) or n_cores
    return Shares(n_jobs, local.n_threads or max(1, n_cores // n_jobs), gpus)


def count_gpus() -> int:
    """How many GPUs torch finds here; asked in another process, since to look for them takes hold of them."""
    if not any(Path(driver).exists() for driver in DRIVERS):
        return 0
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    done = subprocess.run(command, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else 0


def _visible_gpus(n_gpus: int) -> tuple[str, ...]:
    names = _outer_names()
    return tuple(names[:n_gpus] if names is not None else map(str, range(n_gpus)))


def _named_gpus(numbers: Collection[int]) -> tuple[str, ...]:
    """The GPUs of these numbers, counted among those that whoever started this process lets it see."""
    names = _outer_names()
    if names is None:
        return tuple(map(str, numbers))
    for number in numbers:
        if number >= len(names):
            raise UserError(
                f"local.gpus: there is no GPU {number} here: {VISIBLE}={','.join(names)} lets this process "
                f"see {len(names)} of them, counted from 0."
            )
    return tuple(names[number] for number in numbers)


def _outer_names() -> list[str] | None:
    text = os.environ.get(VISIBLE)
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
