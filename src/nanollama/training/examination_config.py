"""What the config of an examination of a trained model says, whichever study it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from nanollama.config import Config, ConfigPath

if TYPE_CHECKING:  # reading a config does not wait for torch
    from nanollama.training.trained import Trained


class ExaminationConfig(Config):
    """Which model is examined, and where the tables go; a study adds what is measured."""

    run: ConfigPath = Field(description="Run folder (its newest checkpoint), or the folder of a checkpoint.")
    out: ConfigPath | None = Field(
        default=None,
        description="Folder of the tables; default `evaluations/step_<8 digits>` in the run folder.",
    )

    def folder(self, trained: Trained[Any]) -> Path:
        """Folder of the tables of a model: never in a checkpoint, which is removed when it is an old one."""
        return self.out or trained.evaluation
