"""How a run is trained, as a section of its config."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nanollama.config import Config
from nanollama.monitor.track import Tracker
from nanollama.optim import OptimizerConfig
from nanollama.precision import Precision


class CheckpointConfig(Config):
    """When to save."""

    every: int = Field(
        default=1000, ge=1, description="Steps between two checkpoints; the last step is always saved."
    )
    keep: int | None = Field(default=2, ge=1, description="Newest checkpoints to keep; null keeps all.")


class TrainingConfig(Config):
    """How a model is trained. The study hands `batch_size` and `seed` on to the parts it builds."""

    n_steps: int = Field(ge=1, description="Optimizer steps of the run.")
    batch_size: int = Field(
        default=128, ge=1, description="Examples of a step, over all processes and micro-batches."
    )
    n_accumulation: int = Field(
        default=1,
        ge=1,
        description="Micro-batches a process cuts its share of a step into: less memory, same gradient.",
    )
    seed: int = Field(
        default=0, ge=0, description="Of all that is random in the run: initial weights, data order, dropout."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="`cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one.",
    )
    precision: Literal["auto"] | Precision = Field(
        default="auto", description="Format of matrix products; `auto` is what the hardware does well."
    )
    compile: bool = Field(
        default=False, description="Compile the model: tens of seconds once, then faster steps."
    )
    n_prefetch: int = Field(default=2, ge=1, description="Batches prepared ahead of time.")
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Stop and save after so long in one process (exit code 75); null sets no limit.",
    )
    log_every: int = Field(default=10, ge=1, description="Steps between two rows of metrics.jsonl.")
    eval_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between two evaluations; null evaluates after the last step only.",
    )
    track: tuple[Tracker, ...] = Field(
        default=(), description="Mirrors of the rows, `tensorboard` and `wandb`; they need the extra `track`."
    )
    checkpoint: CheckpointConfig = Field(default=CheckpointConfig(), description="When to save.")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="The optimizer and its schedule."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TrainingConfig:
        if self.optimizer.warmup_steps > self.n_steps:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, "
                f"expected at most n_steps ({self.n_steps})"
            )
        if self.n_accumulation > self.batch_size:
            raise ValueError(
                f"n_accumulation is {self.n_accumulation}, expected at most batch_size ({self.batch_size})"
            )
        return self
