"""What the configs of the tying study may say."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nanollama.config import Config
from nanollama.data.masking import MaskingConfig
from nanollama.data.text.config import TextConfig
from nanollama.data.text.corpus import DEFAULT_OUT
from nanollama.model import ModelConfig
from nanollama.studies import Study
from nanollama.training.examination_config import ExaminationConfig
from nanollama.training.run_config import TrainingRunConfig

HeldOut = Literal["valid", "test"]


class MeasuresConfig(Config):
    """What is measured on text that is held out."""

    split: HeldOut = Field(default="valid", description="Documents for validation, or for the test.")
    n_rows: int | None = Field(
        default=512, ge=1, description="Examples to measure on, spread over all documents; null takes all."
    )
    batch_size: int = Field(default=64, ge=1, description="Examples at once: a matter of memory.")


class TyingConfig(TrainingRunConfig):
    """A training run: masked tokens are filled in or, by a model with ``causal``, the next one is told."""

    study: Literal["tying"] = Field(description="Which study this config belongs to.")
    text: TextConfig = Field(default=TextConfig(files=(DEFAULT_OUT,)), description="What is learned.")
    n_rows: int | None = Field(
        default=None, ge=1, description="Examples to learn from, the first ones; null takes all."
    )
    first_step: int = Field(
        default=0,
        ge=0,
        description="Batch to begin with: a run that goes on from another sees what that would have seen.",
    )
    masking: MaskingConfig = Field(default=MaskingConfig(), description="Which tokens are filled in.")
    model: ModelConfig = Field(description="Which model learns.")
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @model_validator(mode="after")
    def _check(self) -> TyingConfig:
        if self.text.seq_len > self.model.max_seq_len:
            raise ValueError(
                f"model.max_seq_len = {self.model.max_seq_len} is too small: examples have "
                f"text.seq_len = {self.text.seq_len} tokens"
            )
        return self


class EvalConfig(ExaminationConfig):
    """An examination of a trained model."""

    tables: ClassVar[tuple[str, ...]] = ("measures.csv",)

    study: Literal["tying"] = Field(description="Which study this config belongs to.")
    measures: MeasuresConfig = Field(
        default=MeasuresConfig(split="test", n_rows=None), description="What is measured."
    )


STUDY = Study(
    "tying",
    configs={"train": TyingConfig, "eval": EvalConfig},
    measures=("loss_nats", "accuracy", "learned_nats", "cosine", "procrustes"),
    measured=(
        "loss_nats",
        *("accuracy", "accuracy_low", "accuracy_high", "n_documents"),
        "learned_nats",
        *("cosine", "procrustes"),
        *(f"{side}_{name}" for side in ("input", "output") for name in ("norm", "effective_rank")),
    ),
    tokenizer="apps.tying.data:read_tokenizer",
    exhibits="apps.tying.exhibits:exhibits",
)
