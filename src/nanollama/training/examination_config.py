"""What the config of an examination of a trained model says, whichever study it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from nanollama.config import Config, ConfigPath
from nanollama.training.config import DeviceName
from nanollama.training.run_config import TrainingRunConfig

if TYPE_CHECKING:  # reading a config does not wait for torch
    from nanollama.training.trained import Trained

R = TypeVar("R", bound=TrainingRunConfig)


class ExaminationConfig(Config):
    """Which model is examined, and where the tables go; a study adds what is measured."""

    run: ConfigPath = Field(description="Run folder (its newest checkpoint), or the folder of a checkpoint.")
    out: ConfigPath | None = Field(
        default=None,
        description="Folder of the tables; default `evaluations/step_<8 digits>_<hash of the config>` in the "
        "run folder.",
    )
    device: DeviceName | None = Field(
        default=None, description="Where the model computes; null: as the run says, its training.device."
    )

    def load(self, config_class: type[R]) -> Trained[R]:
        """The model that is examined, on its device; see `nanollama.training.trained.load_run`."""
        from nanollama.training.trained import load_run

        return load_run(config_class, self.run, self.device_keys, device_key="device")

    @property
    def device_keys(self) -> list[str]:
        """The keys of the run that the examination sets anew."""
        return [] if self.device is None else [f"training.device={self.device}"]

    def make_folder(self, trained: Trained[Any]) -> Path:
        """Folder of the tables of a model; see `nanollama.training.trained.Trained.make_evaluation`."""
        return self.out or trained.make_evaluation(self)
