"""What the section ``interventions`` of a config may say; `nanollama.training.interventions` does it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class ForgetConfig(Selection):
    """Empty what the optimizer has gathered about parameters, and leave their values."""

    implementation: Literal["forget"] = Field(description="Which intervention this is.")


class ReinitializeConfig(Selection):
    """Draw parameters anew, as a new model would, and forget what the optimizer knew about them."""

    implementation: Literal["reinitialize"] = Field(description="Which intervention this is.")


class LoadConfig(Selection):
    """Take parameters from a checkpoint of another run, of the same names and shapes."""

    implementation: Literal["load"] = Field(description="Which intervention this is.")
    run: ConfigPath = Field(description="Run folder (its newest checkpoint), or the folder of a checkpoint.")
    optimizer: bool = Field(
        default=False,
        description="Also take what the optimizer has gathered about them, instead of nothing: for all "
        "parameters together.",
    )

    @model_validator(mode="after")
    def _check_optimizer(self) -> LoadConfig:
        if self.optimizer and (self.parameters != ("*",) or self.but):
            raise ValueError("optimizer = true is for all parameters: leave out parameters and but")
        return self


class UntieConfig(Config):
    """Give the output embeddings a matrix of their own, equal to that of the input: the loss stays.

    With ``reinitialize`` of ``head.*`` at the same step, after it, the matrix is drawn instead.
    """

    implementation: Literal["untie"] = Field(description="Which intervention this is.")
    at_step: int = Field(
        default=0, ge=0, description="Optimizer steps done when it acts; 0: before the first."
    )
    moments: Literal["copied", "empty", "both_empty"] = Field(
        default="copied",
        description="What the optimizer knows of the new matrix: what it knew of the tied one, or nothing; "
        "both_empty: nothing of either, to be compared with a tied run that forgets at this step.",
    )


class TieConfig(Config):
    """Make one matrix of input and output embeddings, that of the output, with what is known of it.

    Where embeddings are tied, they become what the output embeddings of untied models are (arXiv 1608.05859).
    """

    implementation: Literal["tie"] = Field(description="Which intervention this is.")
    at_step: int = Field(
        default=0, ge=0, description="Optimizer steps done when it acts; 0: before the first."
    )


InterventionConfig = Annotated[
    FreezeConfig | ForgetConfig | ReinitializeConfig | LoadConfig | UntieConfig | TieConfig,
    Field(discriminator="implementation"),
]
