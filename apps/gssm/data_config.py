"""What is learned: sequences of a graph, as a section of a config.

A run sees `seq_len` + 1 symbols of a sequence and predicts all but the first from those before it. Sequences
have numbers: those to learn from count from 0, those of the test from `FIRST_TEST`, so none is both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from apps.gssm.graph import GraphConfig
from apps.gssm.recall_config import RecallDataConfig
from nanollama.config import Config, ConfigPath, RunName
from nanollama.wording import suggest

MAX_SYMBOLS = 1 << 16
"""Most symbols of a vocabulary: listed sequences are kept as numbers of 16 bits."""
MAX_LISTED = 1 << 31
"""Most symbols of listed sequences that are drawn into memory, 4 GiB of them."""
MAX_MEASURED = 1 << 20
"""Most sequences that something is measured on: they are drawn and examined in memory."""
FIRST_TEST = 1 << 40
"""Number of the first sequence that is kept for the test."""


class MatchConfig(Config):
    """Alphas that give an entropy rate, sought when a run begins; see `apps.gssm.difficulty`."""

    rate_nats: float = Field(gt=0, description="The entropy rate that is wanted, in nats a symbol.")
    tolerance_nats: float = Field(default=0.01, gt=0, description="How far from it is near enough.")
    nodes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Nodes that get the alpha; default all of them."
    )
    n_sequences: int = Field(
        default=128,
        ge=2,
        le=MAX_MEASURED,
        description="Sequences of seq_len + 1 symbols that each alpha is tried on.",
    )


class SourceConfig(Config):
    """A source, and how long its sequences are."""

    graph: GraphConfig = Field(description="The source: the name of a set-up, or `nodes`.")
    kernel_seed: int = Field(default=0, ge=0, description="Of the kernels.")
    sequence_seed: int = Field(
        default=0,
        ge=0,
        description="Of all sequences, the test included; training.seed only orders listed ones.",
    )
    seq_len: int = Field(ge=2, description="Symbols of a sequence that are predicted, all but the first.")
    match: MatchConfig | None = Field(
        default=None, description="Seek alphas of a given entropy rate instead of taking those of the graph."
    )

    @property
    def vocab_size(self) -> int:
        """Number of symbols."""
        return self.graph.vocab_size

    @model_validator(mode="after")
    def _check_source(self) -> SourceConfig:
        if self.vocab_size > MAX_SYMBOLS:
            raise ValueError(f"graph has {self.vocab_size:,} symbols, expected at most {MAX_SYMBOLS:,}")
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


class GraphDataConfig(SourceConfig):
    """Sequences of one source."""

    implementation: Literal["graph"] = Field(description="Sequences drawn from a graph of hidden variables.")
    n_data: int | None = Field(
        default=None,
        ge=1,
        le=FIRST_TEST,
        description="Sequences to learn from, again and again; null takes all of a file, and without one "
        "draws fresh ones without end.",
    )
    file: ConfigPath | None = Field(
        default=None,
        description="HDF5 file of `python -m apps.gssm.data` that holds them; null draws them when training.",
    )

    @model_validator(mode="after")
    def _check_size(self) -> GraphDataConfig:
        n_symbols = (self.n_data or 0) * (self.seq_len + 1)
        if self.file is None and n_symbols > MAX_LISTED:
            raise ValueError(
                f"n_data = {self.n_data:,} sequences are {n_symbols:,} symbols, and memory takes at most "
                f"{MAX_LISTED:,}: write them into a file first, or leave n_data out to draw fresh ones"
            )
        return self


class NamedSourceConfig(SourceConfig):
    """A source among others."""

    name: RunName = Field(description="What tables, pictures and files call it.")


class SetConfig(NamedSourceConfig):
    """Sequences of one source in a file: those to learn from and those of the test."""

    n_train: int = Field(ge=1, le=FIRST_TEST, description="Sequences to learn from.")
    n_test: int = Field(default=1024, ge=1, description="Sequences of the test.")


def check_names(sources: Sequence[NamedSourceConfig]) -> None:
    """Raise a ValueError if two of them have one name."""
    names = [source.name for source in sources]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"two sources are called '{name}': names must differ")


DataConfig = Annotated[GraphDataConfig | RecallDataConfig, Field(discriminator="implementation")]
"""What can be learned; kinds are told apart by `implementation`."""
