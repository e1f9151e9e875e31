"""What the config of an examination of a trained model says, whichever study it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from nanollama.config import Config, ConfigPath, config_hash, file_hash
from nanollama.errors import UserError
from nanollama.monitor.successor import CONFIG
from nanollama.training.config import DeviceName
from nanollama.training.run_config import TrainingRunConfig

if TYPE_CHECKING:  # reading a config does not wait for torch
    from nanollama.training.trained import Trained

R = TypeVar("R", bound=TrainingRunConfig)


class ExaminationConfig(Config):
    """Which model is examined, and where the tables go; a study adds what is measured."""

    tables: ClassVar[tuple[str, ...]] = ()
    """Files of the tables that an examination of the study may write."""

    run: ConfigPath = Field(description="Run folder (its newest checkpoint), or the folder of a checkpoint.")
    out: ConfigPath | None = Field(
        default=None,
        description="Folder of the config and the tables, which holds those of no other examination; default "
        "`evaluations/step_<8 digits>_<hash of the config>` in the run folder.",
    )
    device: DeviceName | None = Field(
        default=None, description="Where the model computes; null: as the run says, its training.device."
    )

    def load(self, config_class: type[R]) -> Trained[R]:
        """The model that is examined, on its device; see `nanollama.training.trained.load_run`.

        Raises:
            UserError: as there, or ``out`` belongs to something else.
        """
        from nanollama.training.trained import load_run

        self._check_out()
        return load_run(config_class, self.run, self.device_keys, device_key="device")

    @property
    def device_keys(self) -> list[str]:
        """The keys of the run that the examination sets anew."""
        return [] if self.device is None else [f"training.device={self.device}"]

    def make_folder(self, trained: Trained[Any]) -> Path:
        """Folder of the tables of a model, with this config and without tables from before.

        Raises:
            UserError: it cannot be written to.
        """
        from nanollama.training.trained import write_examined

        if self.out is None:
            return trained.make_evaluation(self)
        write_examined(self, self.out, "name another folder as out=DIR")
        for name in self.tables:  # this time some may have nothing to tell
            (self.out / name).unlink(missing_ok=True)
        return self.out

    def _check_out(self) -> None:
        """Refuse a folder of another examination, or of a run, before the work."""
        out = self.out
        if out is None:
            return
        if (out / CONFIG).is_file():
            is_other = file_hash(out / CONFIG) != config_hash(self)
        else:
            is_other = any((out / name).exists() for name in self.tables)
        if is_other:
            raise UserError(
                f"out = {out} holds what another config has written: name another folder, or move that away."
            )
