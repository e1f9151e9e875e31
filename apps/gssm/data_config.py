"""What is learned: sequences of a graph, as a section of a config.

A run sees `seq_len` + 1 symbols of a sequence and predicts all but the first from those before it. Sequences
have numbers: those to learn from count from 0, those of the test from `FIRST_TEST`, so that none is both.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from apps.gssm.graph import GraphConfig
from nanollama.config import Config
from nanollama.wording import suggest

FIRST_TEST = 1 << 40
"""Number of the first sequence that is kept for the test."""


class MatchConfig(Config):
    """Alphas that give an entropy rate, sought when a run begins; see `apps.gssm.difficulty`."""

    rate_nats: float = Field(gt=0, description="The entropy rate that is wanted, in nats a symbol.")
    tolerance_nats: float = Field(default=0.01, gt=0, description="How far from it is near enough.")
    nodes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Nodes that get the alpha; default all latents."
    )
    n_sequences: int = Field(
        default=128, ge=2, description="Sequences of seq_len + 1 symbols that each alpha is tried on."
    )


class GraphDataConfig(Config):
    """Sequences of one source."""

    implementation: Literal["graph"] = Field(description="Sequences drawn from a graph of hidden variables.")
    graph: GraphConfig = Field(description="The source: the name of a set-up, or `nodes`.")
    kernel_seed: int = Field(default=0, ge=0, description="Of the kernels.")
    sequence_seed: int = Field(default=0, ge=0, description="Of the sequences.")
    seq_len: int = Field(ge=2, description="Symbols of a sequence that are predicted, all but the first.")
    n_data: int | None = Field(
        default=None,
        ge=1,
        le=FIRST_TEST,
        description="Sequences to learn from, again and again; null draws fresh ones without end.",
    )
    match: MatchConfig | None = Field(
        default=None, description="Seek alphas of a given entropy rate instead of taking those of the graph."
    )

    @property
    def vocab_size(self) -> int:
        """Number of symbols."""
        return self.graph.vocab_size

    @model_validator(mode="after")
    def _check(self) -> GraphDataConfig:
        if self.match is not None:
            names = [node.name for node in self.graph.nodes]
            for name in self.match.nodes or ():
                if name not in names:
                    hint = suggest(name, names)
                    raise ValueError(f"match.nodes: no node is called '{name}'{hint} ({', '.join(names)})")
            if not self.graph.has_floor:
                raise ValueError(
                    "match needs a known entropy, and there is none where context nodes draw kernels afresh "
                    "for every sequence: give graph.n_contexts, or leave match out"
                )
        return self


class RecallDataConfig(Config):
    """Multi-query associative recall; see `apps.gssm.associative`."""

    implementation: Literal["recall"] = Field(description="Pairs of a key and a value, then keys to recall.")
    n_pairs: int = Field(ge=1, description="Pairs of a sequence.")
    n_queries: int = Field(ge=1, description="Keys whose values are asked for, at most n_pairs.")
    vocab_size: int = Field(
        ge=5, description="Number of symbols: half of them keys, half values, one filler."
    )
    seq_len: int = Field(description="Symbols of a sequence.")
    sequence_seed: int = Field(default=0, ge=0, description="Of the sequences.")

    @property
    def n_keys(self) -> int:
        """Number of keys, and of values."""
        return (self.vocab_size - 1) // 2

    @model_validator(mode="after")
    def _check(self) -> RecallDataConfig:
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


DataConfig = Annotated[GraphDataConfig | RecallDataConfig, Field(discriminator="implementation")]
"""What can be learned; kinds are told apart by `implementation`."""
