"""Trackers of the rows, with stand-ins for their packages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from nanollama.errors import MissingExtraError
from nanollama.monitor.track import FOLDER, numbers_of
from tests.toy_training import rows, run_toy, toy_config


class FakeWriter:
    """Stands in for tensorboard's writer."""

    made: ClassVar[list[FakeWriter]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.closed = folder, purge_step, False
        self.shown: list[tuple[str, float, int]] = []
        FakeWriter.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.shown.append((name, value, step))

    def close(self) -> None:
        self.closed = True


class FakeWandbRun:
    """Stands in for a run of wandb."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.shown: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def init(self, **settings: Any) -> FakeWandbRun:
        self.settings = settings
        return self

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.shown.append((step, numbers))

    def finish(self) -> None:
        self.finished = True


class FakeTrackioRun:
    """Stands in for a run of trackio: the arguments of its `init`, and what it refuses."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.shown: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def init(
        self,
        project: str,
        name: str | None = None,
        group: str | None = None,
        config: dict[str, Any] | None = None,
        resume: str = "never",
        embed: bool = True,
        auto_log_gpu: bool | None = None,
        auto_log_cpu: bool | None = None,
    ) -> FakeTrackioRun:
        if resume not in ("must", "allow", "never"):
            raise ValueError("resume must be one of: 'must', 'allow', or 'never'")
        self.settings = {"project": project, "name": name, "resume": resume, "embed": embed}
        self.settings["logs"] = (auto_log_gpu, auto_log_cpu)
        return self

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None and not {"project", "run", "timestamp", "step", "time", "metrics"} & set(
            metrics
        )
        self.shown.append((step, metrics))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    FakeWriter.made = []
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return FakeWriter.made


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandbRun:
    run = FakeWandbRun()
    module = ModuleType("wandb")
    module.init = run.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return run


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> FakeTrackioRun:
    run = FakeTrackioRun()
    module = ModuleType("trackio")
    module.init = run.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return run


def test_tensorboard_shows_the_rows(tmp_path: Path, tensorboard: list[FakeWriter]) -> None:
    run_toy(toy_config(tmp_path, track=("tensorboard",), eval_every=6))
    (writer,) = tensorboard
    assert writer.folder == str(tmp_path / FOLDER) and writer.purge_step == 1 and writer.closed
    losses = [(value, step) for name, value, step in writer.shown if name == "loss"]
    assert losses == [(row["loss"], row["step"]) for row in rows(tmp_path)]
    assert [step for name, _, step in writer.shown if name == "weight_norm"] == [6, 12]


def test_wandb_shows_the_rows_under_one_id(tmp_path: Path, wandb: FakeWandbRun) -> None:
    result = run_toy(toy_config(tmp_path / "mine", track=("wandb",)))
    assert wandb.settings["id"] == f"mine-{result.config_hash}"
    assert wandb.settings["resume"] == "allow" and wandb.finished
    assert [step for step, _ in wandb.shown] == [1, 2, 4, 6, 8, 10, 12, 12]


def test_trackio_shows_the_rows_under_one_name(tmp_path: Path, trackio: FakeTrackioRun) -> None:
    result = run_toy(toy_config(tmp_path / "mine", track=("trackio",)))
    assert trackio.settings == {
        "project": "nanollama",
        "name": f"mine-{result.config_hash}",
        "resume": "allow",
        "embed": False,
        "logs": (False, False),
    }
    losses = [(row["step"], row["loss"]) for row in rows(tmp_path / "mine")]
    assert [(step, numbers["loss"]) for step, numbers in trackio.shown if "loss" in numbers] == losses
    assert trackio.finished


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingExtraError, match=rf"'{name}' is not installed: run `pip install 'nanollama\[track\]'"
    ):
        run_toy(toy_config(tmp_path, track=(name,)))


def test_a_tracker_is_closed_when_the_run_fails(tmp_path: Path, tensorboard: list[FakeWriter]) -> None:
    class Failing:
        def evaluate(self, model: object, step: int) -> dict[str, float]:
            raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        run_toy(toy_config(tmp_path, track=("tensorboard",)), evaluators=[Failing()])
    assert tensorboard[0].closed


def test_trackers_may_differ_and_do_not_change_the_numbers(
    tmp_path: Path, tensorboard: list[FakeWriter]
) -> None:
    run_toy(toy_config(tmp_path / "plain"))
    run_toy(toy_config(tmp_path / "shown", track=("tensorboard",)))
    assert rows(tmp_path / "plain") == rows(tmp_path / "shown")
    assert run_toy(toy_config(tmp_path / "plain", track=("tensorboard",))).status == "finished"


def test_only_numbers_are_shown() -> None:
    assert numbers_of({"step": 3, "loss": 0.5, "n": 2, "undefined": None, "text": "x", "yes": True}) == {
        "loss": 0.5,
        "n": 2,
    }
