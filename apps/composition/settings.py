"""What the configs of the composition study may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from apps.composition.data_config import DataConfig
from nanollama.config import Config, ConfigPath
from nanollama.interventions import InterventionConfig
from nanollama.model import ModelConfig
from nanollama.training_config import TrainingConfig

RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Split = Literal["train", "test"]


class MeasuresConfig(Config):
    """What is measured while a model is trained, and when it is examined."""

    n_sequences: int = Field(
        default=128, ge=1, description="Sequences of each task, length and split to measure on, at most."
    )
    splits: tuple[Split, ...] = Field(
        default=("test", "train"), min_length=1, description="Sequences kept for the test, or learned from."
    )
    heads: bool = Field(default=True, description="Also measure every head's attention maps.")


class CompositionConfig(Config):
    """A training run of the composition study."""

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    name: RunName = Field(description="Name of the run.")
    run_dir: ConfigPath | None = Field(default=None, description="Folder of the run; default runs/<name>.")
    overwrite: bool = Field(default=False, description="Start anew, removing what an earlier run wrote.")
    data: DataConfig = Field(description="What is learned.")
    model: ModelConfig = Field(description="Which model learns.")
    training: TrainingConfig = Field(description="How it is trained.")
    interventions: tuple[InterventionConfig, ...] = Field(
        default=(), description="What is done to the model at which step: freeze, reinitialize, load."
    )
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @model_validator(mode="after")
    def _check(self) -> CompositionConfig:
        check_fit(self.data, self.model)
        n_steps = self.training.n_steps
        for index, intervention in enumerate(self.interventions):
            if intervention.at_step >= n_steps:
                raise ValueError(
                    f"interventions.{index}.at_step = {intervention.at_step} "
                    f"is never reached in {n_steps} steps"
                )
        if self.data.phases and self.data.phases[-1].from_step >= n_steps:
            raise ValueError(
                f"data.phases has from_step = {self.data.phases[-1].from_step}, "
                f"which is never reached in {n_steps} steps"
            )
        return self

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run_dir or Path("runs") / self.name

    @property
    def resolved_training(self) -> TrainingConfig:
        """How the run is trained: ``training``, with ``data.n_epochs`` and ``data.full_batch`` worked in."""
        training, data = self.training, self.data
        batch_size = data.n_examples if data.full_batch else training.batch_size
        n_steps = training.n_steps
        if data.n_epochs is not None:
            n_steps = min(n_steps, -(-data.n_epochs * data.n_examples // batch_size))
        return training.model_copy(update={"batch_size": batch_size, "n_steps": n_steps})


def check_fit(data: DataConfig, model: ModelConfig) -> None:
    """Raise a ValueError if the model cannot read the data."""
    if data.largest_token >= model.vocab_size:
        raise ValueError(
            f"model.vocab_size = {model.vocab_size} is too small: the data use token {data.largest_token}"
        )
    if data.max_seq_len > model.max_seq_len:
        raise ValueError(
            f"model.max_seq_len = {model.max_seq_len} is too small: "
            f"data.max_length = {data.max_length} makes inputs of {data.max_seq_len} tokens"
        )


class EvalConfig(Config):
    """An examination of a trained model."""

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    run: ConfigPath = Field(description="Run folder (its newest checkpoint), or the folder of a checkpoint.")
    out: ConfigPath | None = Field(
        default=None, description="Folder of the tables; default `eval` in the run."
    )
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @property
    def folder(self) -> Path:
        """Folder of the tables."""
        return self.out or self.run / "eval"


CONFIGS: dict[str, type[Config]] = {"train": CompositionConfig, "eval": EvalConfig}
