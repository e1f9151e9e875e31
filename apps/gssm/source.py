"""A source as a run uses it: its graph with the alphas in force, its kernels, its sequences by number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from apps.gssm.data_config import FIRST_TEST, SourceConfig
from apps.gssm.difficulty import Trial, match_entropy
from apps.gssm.graph import GraphConfig
from apps.gssm.kernels import Kernels, draw_kernels
from apps.gssm.sampler import Sample, Sampler
from nanollama.seeds import named_seed

N_AT_ONCE = 1024  # sequences drawn in one go


@dataclass(frozen=True)
class Source:
    """Everything that can be drawn for a config, as pure functions of the sequences' numbers.

    Args:
        graph: with the alphas in force.
        kernel_seed: of the kernels.
        sequence_seed: of the sequences.
        n_symbols: of a sequence, one more than are predicted.
    """

    graph: GraphConfig
    kernel_seed: int
    sequence_seed: int
    n_symbols: int

    @cached_property
    def kernels(self) -> Kernels:
        """The kernels."""
        return draw_kernels(self.graph, self.kernel_seed)

    @cached_property
    def sampler(self) -> Sampler:
        """Draws the sequences."""
        return Sampler(self.kernels, self.sequence_seed)

    def draw(self, numbers: range) -> np.ndarray:
        """Symbols (n, n_symbols) int64 of the sequences of these numbers."""
        return self.sampler.sample(numbers, self.n_symbols).symbols

    def draw_many(self, numbers: range) -> np.ndarray:
        """The same for any number of sequences, as uint16: what a file holds of them."""
        found = np.empty((len(numbers), self.n_symbols), dtype=np.uint16)
        for start in range(0, len(numbers), N_AT_ONCE):
            part = numbers[start : start + N_AT_ONCE]
            found[start : start + len(part)] = self.draw(part)
        return found

    def draw_test(self, n_sequences: int) -> Sample:
        """The first sequences of the test, with what lies behind them."""
        return self.sampler.sample(range(FIRST_TEST, FIRST_TEST + n_sequences), self.n_symbols)

    @cached_property
    def sha256(self) -> str:
        """Of all that says what its sequences are."""
        digest = hashlib.sha256(self.graph.model_dump_json().encode())
        digest.update(f"{self.kernel_seed}/{self.sequence_seed}/{self.n_symbols}".encode())
        digest.update(np.ascontiguousarray(self.draw(range(8)).astype(np.uint16)).tobytes())
        return digest.hexdigest()


@lru_cache(maxsize=8)
def build_source(config: SourceConfig) -> Source:
    """The source of a config, its alphas sought where the config says so.

    Raises:
        UserError: no alpha gives the entropy that is wanted.
    """
    return Source(find_graph(config), config.kernel_seed, config.sequence_seed, config.seq_len + 1)


def find_graph(config: SourceConfig) -> GraphConfig:
    """The graph with the alphas in force; the search draws sequences that are used for nothing else."""
    match = config.match
    if match is None:
        return config.graph
    nodes = match.nodes or [node.name for node in config.graph.nodes]
    seed = named_seed(config.sequence_seed, "match")
    trial = Trial(match.n_sequences, config.seq_len + 1, config.kernel_seed, seed)
    return match_entropy(config.graph, nodes, match.rate_nats, match.tolerance_nats, trial).graph
