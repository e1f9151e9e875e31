"""What the configs of the GSSM study may say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from apps.gssm.data_config import DataConfig
from nanollama.config import Config
from nanollama.studies import Study
from nanollama.training.run_config import TrainingRunConfig


class MeasuresConfig(Config):
    """What is measured while a model is trained."""

    n_sequences: int = Field(default=256, ge=2, description="Fresh sequences that a model is measured on.")


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


STUDY = Study("gssm", configs={"train": GssmConfig})
