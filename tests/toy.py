"""A small study for tests of configs and entry points: every kind of key that a real study has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nanollama.config import Config, ConfigPath


class Wide(Config):
    """A model with heads."""

    implementation: Literal["wide"] = Field("wide", description="Kind of the model.")
    d_model: int = Field(ge=1, description="Width of the model.")
    n_heads: int = Field(2, ge=1, description="Heads of attention.")

    @model_validator(mode="after")
    def _check(self) -> Wide:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model ({self.d_model}) must be divisible by n_heads ({self.n_heads})")
        return self


class Deep(Config):
    """A model without heads."""

    implementation: Literal["deep"] = Field("deep", description="Kind of the model.")
    n_layers: int = Field(ge=1, le=8, description="Layers.")
    decay: float = Field(0.5, gt=0, lt=1, description="Decay of a state per token.")


class Source(Config):
    """One source of data."""

    kind: Literal["qa", "qatool"] = Field(description="Kind of the dialogs.")
    weight: float = Field(1.0, gt=0, description="Share of the batches.")


class Optimizer(Config):
    """How weights move."""

    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")


class ToyConfig(Config):
    """The config of the toy study."""

    study: Literal["toy"] = Field(description="Which study.")
    seed: int = Field(0, ge=0, description="Seed of all that is random.")
    data_root: ConfigPath = Field(Path("data"), description="Where the data live.")
    run_dir: ConfigPath | None = Field(None, description="Where the run lives.")
    model: Annotated[Wide | Deep, Field(discriminator="implementation")] = Field(description="The model.")
    optimizer: Optimizer = Field(Optimizer(), description="How weights move.")
    sources: tuple[Source, ...] = Field((), max_length=3, description="What is learned.")
    device: Literal["auto", "cpu"] | int = Field("auto", description="Where it runs, or the number of a GPU.")
    max_minutes: float | None = Field(None, gt=0, description="Time limit.")
    compile: bool = Field(False, description="Compile the model?")
    name: str = Field("toy", min_length=1, pattern=r"^[^/]*$", description="Name of the run.")
    limits: dict[str, float] = Field({}, description="Limits by name.")


TOY = """\
study: toy
seed: 3
model:
  implementation: wide
  d_model: 32
optimizer:
  learning_rate: 1e-4
sources:
  - kind: qa
  - {kind: qatool, weight: 2}
"""
