"""What the configs of the GSSM study may say."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from apps.gssm.data_config import (
    MAX_MEASURED,
    DataConfig,
    NamedSourceConfig,
    SetConfig,
    SourceConfig,
    check_names,
)
from nanollama.config import Config, ConfigPath
from nanollama.studies import Study
from nanollama.training.examination_config import ExaminationConfig
from nanollama.training.run_config import TrainingRunConfig
from nanollama.wording import suggest


class MeasuresConfig(Config):
    """What is measured while a model is trained."""

    n_sequences: int = Field(
        default=256, ge=2, le=MAX_MEASURED, description="Fresh sequences that a model is measured on."
    )


class GssmConfig(TrainingRunConfig):
    """A training run of the GSSM study."""

    study: Literal["gssm"] = Field(description="Which study this config belongs to.")
    data: DataConfig = Field(description="What is learned.")
    measures: MeasuresConfig = Field(default=MeasuresConfig(), description="What is measured.")

    @model_validator(mode="after")
    def _check(self) -> GssmConfig:
        data, model = self.data, self.model
        if data.vocab_size > model.vocab_size:
            raise ValueError(
                f"model.vocab_size = {model.vocab_size} is too small: the data have {data.vocab_size} symbols"
            )
        if data.seq_len > model.max_seq_len:
            raise ValueError(
                f"model.max_seq_len = {model.max_seq_len} is too small: data.seq_len = {data.seq_len}"
            )
        return self


class EvalConfig(ExaminationConfig):
    """An examination of a trained model."""

    tables: ClassVar[tuple[str, ...]] = ("result.json", "positions.csv", "latents.csv", "switches.csv")

    study: Literal["gssm"] = Field(description="Which study this config belongs to.")
    n_sequences: int = Field(
        default=512, ge=4, le=MAX_MEASURED, description="Fresh sequences that it is measured on."
    )


class DataFileConfig(Config):
    """Sequences that are written into a file."""

    study: Literal["gssm"] = Field(description="Which study this config belongs to.")
    file: ConfigPath = Field(description="HDF5 file to write.")
    sets: tuple[SetConfig, ...] = Field(min_length=1, description="What is written, a group each.")
    chunk_size: int = Field(default=4096, ge=1, description="Sequences that are drawn and written at once.")
    overwrite: bool = Field(default=False, description="Replace a file of another config, finished or not.")

    @model_validator(mode="after")
    def _check(self) -> DataFileConfig:
        check_names(self.sets)
        return self


class EntropyConfig(Config):
    """Sources whose entropies are told, beside what simple methods make of their sequences."""

    study: Literal["gssm"] = Field(description="Which study this config belongs to.")
    sources: tuple[NamedSourceConfig, ...] = Field(min_length=1, description="The sources.")
    n_sequences: int = Field(
        default=512, ge=2, le=MAX_MEASURED, description="Sequences that are drawn of each."
    )
    out: ConfigPath | None = Field(default=None, description="CSV file of the table; null prints it alone.")

    @model_validator(mode="after")
    def _check(self) -> EntropyConfig:
        check_names(self.sources)
        return self


class ShowConfig(Config):
    """Sources that are drawn: graph, kernels, entropies."""

    study: Literal["gssm"] = Field(description="Which study this config belongs to.")
    sources: tuple[NamedSourceConfig, ...] = Field(min_length=1, description="The sources.")
    folder: ConfigPath = Field(description="Folder of the pictures.")
    n_sequences: int = Field(
        default=256, ge=2, le=MAX_MEASURED, description="Sequences that entropies are told from."
    )
    formats: tuple[Literal["svg", "png", "pdf"], ...] = Field(
        default=("svg", "png"), min_length=1, description="Formats of the pictures."
    )

    @model_validator(mode="after")
    def _check(self) -> ShowConfig:
        check_names(self.sources)
        return self


class DifficultyConfig(Config):
    """Which alphas make a source how difficult."""

    study: Literal["gssm"] = Field(description="Which study this config belongs to.")
    source: SourceConfig = Field(description="The source; its kernel seed is not used.")
    nodes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Nodes that get the alpha; default all of them."
    )
    alphas: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...] = Field(
        default=(), description="Alphas whose entropy rates are told."
    )
    rates_nats: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="Entropy rates whose alphas are sought."
    )
    tolerance_nats: float = Field(default=0.01, gt=0, description="How far from a rate is near enough.")
    kernel_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0, 1, 2), min_length=1, description="Seeds of the kernels to try."
    )
    n_sequences: int = Field(
        default=256, ge=2, le=MAX_MEASURED, description="Sequences that each alpha is tried on."
    )
    out: ConfigPath | None = Field(default=None, description="CSV file of the table; null prints it alone.")

    @model_validator(mode="after")
    def _check(self) -> DifficultyConfig:
        if not self.alphas and not self.rates_nats:
            raise ValueError("nothing is asked: give alphas, or rates_nats whose alphas are sought")
        if self.source.match is not None:
            raise ValueError("source.match has no effect here: give rates_nats")
        names = [node.name for node in self.source.graph.nodes]
        for name in self.nodes or ():
            if name not in names:
                raise ValueError(
                    f"nodes: no node is called '{name}'{suggest(name, names)} ({', '.join(names)})"
                )
        return self


STUDY = Study(
    "gssm",
    configs={
        "train": GssmConfig,
        "eval": EvalConfig,
        "data": DataFileConfig,
        "entropy": EntropyConfig,
        "difficulty": DifficultyConfig,
        "show": ShowConfig,
    },
    commands=("local_grid",),
    pages=("gap",),
    measures=(
        "recall",
        "gap_nats",
        "kl_nats",
        "kl_over_learnable",
        "floor_nats",
        "unigram_nats",
        "loss_nats",
    ),
    measured=(
        *("unigram_nats", "kl_over_learnable", "kl_nats/*", "gap_nats/*"),
        *(
            f"{name}{end}"
            for name in ("recall", "loss_nats", "floor_nats", "gap_nats", "kl_nats")
            for end in ("", "_low", "_high")
        ),
    ),
    exhibits="apps.gssm.exhibits:exhibits",
)
