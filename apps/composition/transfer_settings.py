"""The config of a transfer experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from apps.composition.data_config import DataConfig
from apps.composition.settings import CompositionConfig, MeasuresConfig, RunName
from nanollama.config import Config, ConfigPath
from nanollama.interventions import InterventionConfig, LoadConfig
from nanollama.model import ModelConfig
from nanollama.training_config import TrainingConfig

Arm = Literal["source", "scratch", "transfer"]


class TaskSection(Config):
    """What is learned in one part of the experiment, and how."""

    data: DataConfig = Field(description="What is learned.")
    training: TrainingConfig = Field(description="How; the seed is that of the pair.")


class TransferConfig(Config):
    """Does a model that has learned one task learn another one faster? Pairs of runs, a pair a seed."""

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    name: RunName = Field(description="Name of the experiment.")
    run_dir: ConfigPath | None = Field(default=None, description="Folder of all runs; default runs/<name>.")
    overwrite: bool = Field(default=False, description="Start every run anew.")
    seeds: tuple[int, ...] = Field(min_length=2, description="Seeds; each gives a source and a pair of runs.")
    threshold: float = Field(
        default=0.9, gt=0, le=1, description="Test accuracy on the target task that counts as learned."
    )
    model: ModelConfig = Field(description="Which model learns.")
    source: TaskSection = Field(description="The task learned first.")
    target: TaskSection = Field(description="The task learned from there, and from scratch.")
    interventions: tuple[InterventionConfig, ...] = Field(
        default=(),
        description="What else is done to the model at the target: freeze or reinitialize parts.",
    )
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @model_validator(mode="after")
    def _check(self) -> TransferConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, got {list(self.seeds)}")
        if self.target.training.eval_every is None:
            raise ValueError("target.training.eval_every says how finely epochs are told: it must be set")
        for arm in ("source", "scratch", "transfer"):
            self.run_config(arm, self.seeds[0])
        return self

    @property
    def folder(self) -> Path:
        """Folder of all runs."""
        return self.run_dir or Path("runs") / self.name

    def run_config(self, arm: Arm, seed: int) -> CompositionConfig:
        """The config of one run."""
        section = self.source if arm == "source" else self.target
        load = LoadConfig(implementation="load", run=self.folder / f"seed_{seed}" / "source")
        # Targets start from the same weights and see the same batches: pairs differ in the transfer alone.
        return CompositionConfig(
            study="composition",
            name=f"{self.name}_{arm}_{seed}",
            run_dir=self.folder / f"seed_{seed}" / arm,
            overwrite=self.overwrite,
            data=section.data,
            model=self.model,
            training=section.training.model_copy(update={"seed": seed}),
            interventions=(load, *self.interventions) if arm == "transfer" else (),
            measures=self.measures,
        )
