"""What the configs of the composition study may say."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field, model_validator

from apps.composition.data_config import DataConfig, TokensConfig
from apps.composition.tasks import TaskConfig
from nanollama.config import Config
from nanollama.model import ModelSection
from nanollama.studies import Study
from nanollama.training.config import TrainingConfig
from nanollama.training.examination_config import ExaminationConfig
from nanollama.training.run_config import TrainingRunConfig

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
    causal: bool = Field(
        default=False,
        description="Also put ideal and uniform maps in the place of the circuit's own while training; "
        "`eval` always does.",
    )

    @model_validator(mode="after")
    def _check(self) -> MeasuresConfig:
        if self.causal and not self.heads:
            raise ValueError(
                "causal = true has no effect with heads = false, where no circuit is looked for: "
                "set heads = true, or leave causal out"
            )
        return self


class CompositionConfig(TrainingRunConfig):
    """A training run of the composition study."""

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    data: DataConfig = Field(description="What is learned.")
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @model_validator(mode="after")
    def _check(self) -> CompositionConfig:
        check_fit(self.data, self.model)
        training = self.resolved_training
        n_steps = training.n_steps
        if training.n_accumulation > training.batch_size:
            raise ValueError(
                f"training.n_accumulation is {training.n_accumulation}, but with data.full_batch a batch is "
                f"the {training.batch_size} sequences of the training set: expected at most as many"
            )
        if self.data.phases and self.data.phases[-1].from_step >= n_steps:
            raise ValueError(
                f"data.phases has from_step = {self.data.phases[-1].from_step}, "
                f"which is never reached in {n_steps} steps"
            )
        return self

    @property
    def resolved_training(self) -> TrainingConfig:
        """How the run is trained: ``training``, with ``data.n_epochs`` and ``data.full_batch`` worked in."""
        training, data = self.training, self.data
        batch_size = data.n_examples if data.full_batch else training.batch_size
        n_steps = training.n_steps
        if data.n_epochs is not None:
            n_steps = min(n_steps, -(-data.n_epochs * data.n_examples // batch_size))
        return training.model_copy(update={"batch_size": batch_size, "n_steps": n_steps})


def check_fit(data: DataConfig, model: ModelSection) -> None:
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


class EvalConfig(ExaminationConfig):
    """An examination of a trained model."""

    tables: ClassVar[tuple[str, ...]] = ("measures.csv", "causal.csv", "probes.csv")

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")


class HandmadeConfig(Config):
    """A model built by hand, to be measured like a trained one."""

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    tasks: tuple[TaskConfig, ...] = Field(
        min_length=1, description="Iterations to build a model for, each alone."
    )
    tokens: TokensConfig = Field(default=TokensConfig(), description="Which token means what.")
    vocab_size: int = Field(default=64, ge=1, description="Number of token ids.")
    max_length: int = Field(default=32, ge=1, le=256, description="Inputs of the longest sequences.")
    n_test: int = Field(default=64, ge=1, description="Sequences a length to measure on.")

    @model_validator(mode="after")
    def _check(self) -> HandmadeConfig:
        for index, task in enumerate(self.tasks):
            if task.implementation == "sparse_addition":
                raise ValueError(f"tasks.{index} is no iteration: sparse_addition has no states")
            largest = self.data(index).largest_token
            if largest >= self.vocab_size:
                raise ValueError(f"vocab_size = {self.vocab_size} is too small: the data use token {largest}")
        return self

    def data(self, index: int) -> DataConfig:
        """The sequences of one task."""
        return DataConfig(
            tasks=(self.tasks[index],),
            tokens=self.tokens,
            max_length=self.max_length,
            n_train=None,
            n_test=self.n_test,
        )


HEAD_MEASURES = ("layer", "head", "mean", "peakiness", "peakiness_long", "invariance", "entropy_bits")
"""Of the best head of each kind."""

STUDY = Study(
    "composition",
    configs={
        "train": CompositionConfig,
        "eval": EvalConfig,
        "handmade": HandmadeConfig,
    },
    pages=("attention",),
    measures=(
        "test_accuracy",
        "test_accuracy_long",
        "eoi_peakiness_long",
        "iteration_peakiness_long",
        "iteration_entropy_bits",
        "ideal_maps_loss",
        "ideal_iteration_map_loss",
        "uniform_maps_over_chance",
    ),
    measured=(
        "*/*",
        *(
            f"{split}_{name}"
            for split in get_args(Split)
            for name in ("accuracy", "accuracy_long", "grammar")
        ),
        *(f"{head}_{name}" for head in ("eoi", "iteration") for name in HEAD_MEASURES),
        *("circuit_score", "ideal_maps_loss", "ideal_iteration_map_loss", "uniform_maps_over_chance"),
    ),
    exhibits="apps.composition.exhibits:exhibits",
)
