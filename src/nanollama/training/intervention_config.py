"""What the section ``interventions`` of a config may say; `nanollama.training.interventions` does it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nanollama.config import Config, ConfigPath


class Selection(Config):
    """Some of the parameters of a model, at some step."""

    at_step: int = Field(
        default=0, ge=0, description="Optimizer steps done when it acts; 0: before the first."
    )
    parameters: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Patterns of parameter names: blocks.1.*, *embedding*."
    )
    but: tuple[str, ...] = Field(default=(), description="Patterns of parameter names to leave out.")


class FreezeConfig(Selection):
    """Stop parameters from learning, from a step on."""

    implementation: Literal["freeze"] = Field(description="Which intervention this is.")


class ReinitializeConfig(Selection):
    """Draw parameters anew, as a new model would, and forget what the optimizer knew about them."""

    implementation: Literal["reinitialize"] = Field(description="Which intervention this is.")


class LoadConfig(Selection):
    """Take parameters from a checkpoint of another run, of the same names and shapes."""

    implementation: Literal["load"] = Field(description="Which intervention this is.")
    run: ConfigPath = Field(description="Run folder (its newest checkpoint), or the folder of a checkpoint.")


InterventionConfig = Annotated[
    FreezeConfig | ReinitializeConfig | LoadConfig, Field(discriminator="implementation")
]
