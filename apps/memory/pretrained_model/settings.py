"""What the config of a run that pretrains a model may say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from apps.memory.data_settings import DIALOG_TOKENS, SumsConfig
from nanollama.config import Config
from nanollama.data.text.config import BytePairConfig, TextConfig
from nanollama.data.text.corpus import DEFAULT_OUT
from nanollama.model import HuggingFaceConfig
from nanollama.training.run_config import TrainingRunConfig


class PretrainMeasuresConfig(Config):
    """What is measured on text that is held out."""

    split: Literal["valid", "test"] = Field(
        default="valid", description="Documents for validation, or for the test."
    )
    n_rows: int = Field(default=256, ge=1, description="Examples to measure on, spread over all documents.")
    batch_size: int = Field(default=16, ge=1, description="Examples at once: a matter of memory.")
    n_samples: int = Field(default=4, ge=1, description="Examples whose beginnings the model goes on from.")
    prompt_len: int = Field(default=16, ge=1, description="Tokens of these beginnings.")
    n_new: int = Field(default=48, ge=1, description="Tokens that it goes on for, the likeliest each time.")


class PretrainDialogsConfig(Config):
    """Dialogs among the text: a model that has read some knows their format before it learns facts.

    They are sums, half of them reckoned in the head and half by asking the calculator, so that they say
    nothing of people and favour neither of the two.
    """

    share: float = Field(gt=0, lt=1, description="Share of the rows of a batch.")
    sums: SumsConfig = Field(default=SumsConfig(), description="What they are about.")


class PretrainConfig(TrainingRunConfig):
    """A run that trains a new model on text; the folder ``model`` of the run is then one to be finetuned."""

    study: Literal["memory"] = Field(description="Which study this config belongs to.")
    model: HuggingFaceConfig = Field(description="Which model learns.")
    text: TextConfig = Field(
        default=TextConfig(files=(DEFAULT_OUT,), tokenizer=BytePairConfig(implementation="byte_pairs")),
        description="What is learned.",
    )
    dialogs: PretrainDialogsConfig | None = Field(
        default=None, description="Dialogs among the text; null: text alone."
    )
    measures: PretrainMeasuresConfig = Field(
        default=PretrainMeasuresConfig(), description="What is measured."
    )

    @property
    def added_tokens(self) -> tuple[str, ...]:
        """Special tokens that the tokenizer is given, beside those it was made with."""
        return () if self.dialogs is None else tuple(DIALOG_TOKENS.values())

    @model_validator(mode="after")
    def _check(self) -> PretrainConfig:
        if self.model.path is not None:
            raise ValueError("model.path is a model that is trained: pretraining takes model.architecture")
        asked = self.measures
        needed = max(self.text.seq_len - 1, asked.prompt_len + asked.n_new)
        if needed > self.model.max_seq_len:
            raise ValueError(
                f"model.max_seq_len = {self.model.max_seq_len} is too small: text.seq_len, or "
                f"measures.prompt_len and n_new together, make {needed} tokens to read"
            )
        if asked.prompt_len > self.text.seq_len:
            raise ValueError(
                f"measures.prompt_len = {asked.prompt_len} is more than an example has, "
                f"text.seq_len = {self.text.seq_len}"
            )
        return self
