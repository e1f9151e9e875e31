"""What the configs of the composition study may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from apps.composition.data_config import DataConfig, TokensConfig
from apps.composition.tasks import TaskConfig
from nanollama.config import Config, ConfigPath
from nanollama.model import ModelSection
from nanollama.training.config import TrainingConfig
from nanollama.training.intervention_config import InterventionConfig, LoadConfig

RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Split = Literal["train", "test"]
Arm = Literal["source", "scratch", "transfer"]


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


class CompositionConfig(Config):
    """A training run of the composition study."""

    study: Literal["composition"] = Field(description="Which study this config belongs to.")
    name: RunName = Field(description="Name of the run.")
    run_dir: ConfigPath | None = Field(default=None, description="Folder of the run; default runs/<name>.")
    overwrite: bool = Field(default=False, description="Start anew, removing what an earlier run wrote.")
    data: DataConfig = Field(description="What is learned.")
    model: ModelSection = Field(description="Which model learns.")
    training: TrainingConfig = Field(description="How it is trained.")
    interventions: tuple[InterventionConfig, ...] = Field(
        default=(), description="What is done to the model at which step: freeze, reinitialize, load."
    )
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @model_validator(mode="after")
    def _check(self) -> CompositionConfig:
        check_fit(self.data, self.model)
        n_steps = self.resolved_training.n_steps
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
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=2,
        max_length=20,
        description="Seeds; each gives a source and a pair of runs. The test tries all 2^n signs of n pairs.",
    )
    threshold: float = Field(
        default=0.9, gt=0, le=1, description="Test accuracy on the target task that counts as learned."
    )
    expected_speedup: float | None = Field(
        default=None,
        gt=0,
        description="How many times fewer epochs the transfer has to take for success; null expects nothing.",
    )
    model: ModelSection = Field(description="Which model learns.")
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
        if self.target.data.n_train is None:
            raise ValueError("target.data.n_train = null draws sequences without end: there are no epochs")
        if "test" not in self.measures.splits:
            raise ValueError("measures.splits must contain test: what is learned is told by test accuracy")
        stop_when = self.target.training.stop_when
        if stop_when is not None and stop_when.measures.get("test_accuracy", 0.0) < self.threshold:
            raise ValueError(
                "target.training.stop_when must ask for a test_accuracy of at least "
                f"threshold = {self.threshold:g}: runs would stop before they reach it"
            )
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


CONFIGS: dict[str, type[Config]] = {
    "train": CompositionConfig,
    "eval": EvalConfig,
    "transfer": TransferConfig,
    "handmade": HandmadeConfig,
}
