"""What the config of a run of training says, whichever study it belongs to."""

from __future__ import annotations

from pydantic import Field, model_validator

from nanollama.config import RunConfig
from nanollama.model import ModelSection
from nanollama.training.config import TrainingConfig
from nanollama.training.intervention_config import InterventionConfig


class TrainingRunConfig(RunConfig):
    """A model, how it is trained, and what is done to it meanwhile; a study adds what is learned."""

    model: ModelSection = Field(description="Which model learns.")
    training: TrainingConfig = Field(description="How it is trained.")
    interventions: tuple[InterventionConfig, ...] = Field(
        default=(), description="What is done to the model at which step: freeze, load, untie, ..."
    )

    @model_validator(mode="after")
    def _check_interventions(self) -> TrainingRunConfig:
        n_steps = self.resolved_training.n_steps
        for index, intervention in enumerate(self.interventions):
            if intervention.at_step >= n_steps:
                raise ValueError(
                    f"interventions.{index}.at_step = {intervention.at_step} "
                    f"is never reached in {n_steps} steps"
                )
        return self

    @property
    def resolved_training(self) -> TrainingConfig:
        """How the run is trained, with what other sections say about it worked in."""
        return self.training
