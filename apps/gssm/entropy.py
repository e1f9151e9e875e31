"""The entropy of a source: the loss, by position, of a model that knows everything about it.

``python -m apps.gssm.entropy CONFIG [key=value ...]`` tells those of several sources, beside what simple
methods make of their sequences.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.gssm.floor import Floor
from apps.gssm.kernels import Kernels
from apps.gssm.printing import show_table
from apps.gssm.references import ngram_cross_entropy, unigram_entropy, zlib_nats
from apps.gssm.sampler import Sampler
from apps.gssm.settings import EntropyConfig
from nanollama.entrypoint import run_main
from nanollama.errors import UserError

if TYPE_CHECKING:  # it seeks alphas by this module's entropies
    from apps.gssm.source import Source

N_AT_ONCE = 512  # sequences


@dataclass(frozen=True)
class Entropy:
    """An entropy rate estimated from fresh sequences, in nats.

    The terms -log p(symbol t | symbols before it) are exact; only which sequences are drawn is random.

    Args:
        rate_nats: their mean over sequences and positions, H_T / T.
        rate_error: its standard error over sequences, for one source.
    """

    rate_nats: float
    rate_error: float


def entropy(kernels: Kernels, n_sequences: int, seq_len: int, seed: int) -> Entropy:
    """The entropy rate of a source, from `n_sequences` sequences of a seed.

    Raises:
        UserError: there are fewer than two sequences, or nothing exact is known of the source.
    """
    if n_sequences < 2:
        raise UserError(f"n_sequences = {n_sequences} gives no standard error: draw at least 2.")
    return summarise(surprisals(kernels, n_sequences, seq_len, seed))


def surprisals(kernels: Kernels, n_sequences: int, seq_len: int, seed: int) -> np.ndarray:
    """-log p(symbol t | symbols before it) in nats, (n, T), of sequences drawn by a seed."""
    floor, sampler = Floor(kernels), Sampler(kernels, seed)
    terms = np.empty((n_sequences, seq_len))
    for start in range(0, n_sequences, N_AT_ONCE):
        numbers = range(start, min(start + N_AT_ONCE, n_sequences))
        terms[numbers.start : numbers.stop] = -floor.log_likelihood(sampler.sample(numbers, seq_len).symbols)
    return terms


def summarise(terms: np.ndarray) -> Entropy:
    """Mean and standard error of terms -log p (n, T) of n independent sequences."""
    rates = terms.mean(axis=1)
    return Entropy(float(rates.mean()), float(rates.std(ddof=1) / np.sqrt(len(terms))))


def run(config: EntropyConfig) -> None:
    """Print a row a source, and write it where the config says."""
    from apps.gssm.source import build_source  # seeks alphas by this module's entropies

    rows = []
    for each in config.sources:
        source = build_source(each)
        rows.append({"source": each.name, **describe(source, config.n_sequences)})
    show_table(rows, config.out)


def describe(source: Source, n_sequences: int) -> dict[str, Any]:
    """Entropies of a source, and losses of simple methods that learn from one half and predict the other."""
    graph = source.graph
    symbols = source.draw(range(n_sequences))
    half = (n_sequences + 1) // 2
    row: dict[str, Any] = {"latent_states": graph.n_states, "symbols": graph.vocab_size}
    if graph.has_floor:
        found = summarise(-Floor(source.kernels).log_likelihood(symbols))
        row |= {"rate_nats": found.rate_nats, "rate_error": found.rate_error}
    else:
        row |= {"rate_nats": None, "rate_error": None}
    row["unigram_nats"] = unigram_entropy(symbols)
    for order in (2, 3):
        row[f"{order}gram_nats"] = ngram_cross_entropy(
            symbols[:half], symbols[half:], graph.vocab_size, order
        )
    return row | {"zlib_nats": zlib_nats(symbols, graph.vocab_size)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(EntropyConfig, run, argv, "Tell the exact entropies of sources, beside simple methods.")


if __name__ == "__main__":
    sys.exit(main())
