"""The config of the toy study: a run that can misbehave in every way a run can."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nanollama.config import Config, ConfigPath, RunConfig
from nanollama.studies import Study
from nanollama.training.config import TrainingConfig
from nanollama.training.intervention_config import InterventionConfig


class LaunchedToyConfig(RunConfig):
    """A whole run."""

    study: Literal["toy"] = Field(description="Which study.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the embeddings.")
    ending: Literal["well", "raise", "refuse", "exit", "kill"] = Field(
        default="well", description="How the run ends."
    )
    seconds_a_step: float = Field(default=0.0, ge=0, description="To sleep at each step.")
    training: TrainingConfig = Field(description="How to train.")
    interventions: tuple[InterventionConfig, ...] = Field(
        default=(), description="What is done to the model."
    )


class ToyBaseConfig(LaunchedToyConfig):
    """A run of another kind, which others start from."""


class ToyEvalConfig(Config):
    """An examination."""

    study: Literal["toy"] = Field(description="Which study.")
    run: ConfigPath = Field(description="A checkpoint.")
    note: str = Field(default="", description="Written beside what was found.")


STUDY = Study("toy", {"train": LaunchedToyConfig, "first.base": ToyBaseConfig, "eval": ToyEvalConfig})
