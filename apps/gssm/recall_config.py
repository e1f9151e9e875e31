"""Associative recall, as the section `data` of a config."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nanollama.config import Config

LEAST_PAIRS = 4
"""With one pair, the parity of the key tells that of the value; with four, eight symbols have to be added."""


class RecallDataConfig(Config):
    """Multi-query associative recall; see `apps.gssm.associative`."""

    implementation: Literal["recall"] = Field(description="Pairs of a key and a value, then keys to recall.")
    n_pairs: int = Field(ge=1, description="Pairs of a sequence, at least 4.")
    n_queries: int = Field(ge=1, description="Keys whose values are asked for, at most n_pairs.")
    vocab_size: int = Field(
        ge=5, description="Number of symbols: half of them keys, half values, one filler."
    )
    seq_len: int = Field(description="Symbols of a sequence.")
    sequence_seed: int = Field(
        default=0,
        ge=0,
        description="Of all sequences, learned from and asked about; training.seed changes none of them.",
    )

    @property
    def n_keys(self) -> int:
        """Number of keys, and of values."""
        return (self.vocab_size - 1) // 2

    @model_validator(mode="after")
    def _check(self) -> RecallDataConfig:
        if self.n_pairs < LEAST_PAIRS:
            raise ValueError(
                f"n_pairs = {self.n_pairs} is too few: the ids of a sequence add up to an even number in "
                "training and to an odd one in the test, which with few pairs a model can learn, and answer "
                f"wrongly in the test; expected at least {LEAST_PAIRS}"
            )
        if self.n_pairs > self.n_keys:
            raise ValueError(
                f"n_pairs = {self.n_pairs} different keys need a vocab_size of at least "
                f"{2 * self.n_pairs + 1}, got {self.vocab_size}"
            )
        if self.n_queries > self.n_pairs:
            raise ValueError(f"n_queries = {self.n_queries} is more than n_pairs = {self.n_pairs}")
        if self.seq_len < (least := 2 * self.n_pairs + self.n_queries):
            raise ValueError(f"seq_len = {self.seq_len} is too short: pairs and queries take {least} symbols")
        return self
