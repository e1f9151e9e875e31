"""Optional trackers that show the rows of a run. The JSON lines are the truth; these are only for looking."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

from nanollama.errors import MissingExtraError

TrackerName = Literal["tensorboard", "wandb", "trackio"]
FOLDER = "track"  # inside the run folder
TRACKIO_PROJECT = "nanollama"


class Tracker(Protocol):
    """Shows numbers by step."""

    def show(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of a step."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


class TensorBoardTracker:
    """Event files under ``track/`` of the run folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        _need("tensorboard", "tensorboard")
        module = importlib.import_module("torch.utils.tensorboard")
        # What an interrupted process wrote after its last checkpoint is hidden, like the rows that are cut.
        self._writer = module.SummaryWriter(str(folder / FOLDER), purge_step=first_step)

    def show(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandbTracker:
    """A run of Weights & Biases, named after the run folder; its settings come from its own environment."""

    def __init__(self, folder: Path, run_id: str) -> None:
        wandb = _need("wandb", "wandb")
        (folder / FOLDER).mkdir(exist_ok=True)
        self._run = wandb.init(name=folder.name, id=run_id, resume="allow", dir=str(folder / FOLDER))

    def show(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


class TrackioTracker:
    """A run of trackio in the project `TRACKIO_PROJECT`, named after the run's folder and config.

    Where it is kept, and whether it is sent anywhere, its own environment says (``TRACKIO_DIR``). It forgets
    nothing: steps that an interrupted process had shown after its last checkpoint stay beside the new ones.
    """

    def __init__(self, run_id: str) -> None:
        trackio = _need("trackio", "trackio")
        self._run = trackio.init(
            project=TRACKIO_PROJECT,
            name=run_id,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def show(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


@contextmanager
def open_trackers(
    names: Sequence[TrackerName], folder: Path, run_id: str, first_step: int
) -> Iterator[list[Tracker]]:
    """The trackers asked for, closed at the end.

    Args:
        names: which.
        folder: of the run.
        run_id: the same each time the run goes on.
        first_step: first step that will be shown.

    Raises:
        MissingExtraError: a tracker's package is not installed.
    """
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for name in names:
            tracker = _open(name, folder, run_id, first_step)
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers


def _open(name: TrackerName, folder: Path, run_id: str, first_step: int) -> Tracker:
    if name == "tensorboard":
        return TensorBoardTracker(folder, first_step)
    return WandbTracker(folder, run_id) if name == "wandb" else TrackioTracker(run_id)


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The columns of a row that a tracker can draw: numbers, without the step."""
    return {
        name: value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _need(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(package, "track") from error
