"""The entropy of a source: the loss, by position, of a model that knows everything about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apps.gssm.floor import Floor
from apps.gssm.kernels import Kernels
from apps.gssm.sampler import Sampler
from nanollama.errors import UserError

N_AT_ONCE = 512  # sequences


@dataclass(frozen=True)
class Entropy:
    """Entropies estimated from fresh sequences, in nats.

    The terms -log p(symbol t | symbols before it) are exact; only which sequences are drawn is random.
    Standard errors are those over sequences, for one source.

    Args:
        by_position_nats: (T,) H_t - H_{t-1}, the entropy of symbol t given those before it.
        by_position_error: (T,) its standard error.
        rate_nats: the mean over positions, H_T / T.
        rate_error: its standard error.
    """

    by_position_nats: np.ndarray
    by_position_error: np.ndarray
    rate_nats: float
    rate_error: float


def entropy(kernels: Kernels, n_sequences: int, seq_len: int, seed: int) -> Entropy:
    """The entropy of a source, from `n_sequences` sequences of a seed.

    Raises:
        UserError: there are fewer than two sequences, or nothing exact is known of the source.
    """
    if n_sequences < 2:
        raise UserError(f"n_sequences = {n_sequences} gives no standard error: draw at least 2.")
    floor, sampler = Floor(kernels), Sampler(kernels, seed)
    terms = np.empty((n_sequences, seq_len))
    for start in range(0, n_sequences, N_AT_ONCE):
        numbers = range(start, min(start + N_AT_ONCE, n_sequences))
        terms[numbers.start : numbers.stop] = -floor.log_likelihood(sampler.sample(numbers, seq_len).symbols)
    return summarise(terms)


def summarise(terms: np.ndarray) -> Entropy:
    """Means and standard errors of terms -log p (n, T) of n independent sequences."""
    root = np.sqrt(len(terms))
    rates = terms.mean(axis=1)
    return Entropy(
        terms.mean(axis=0),
        terms.std(axis=0, ddof=1) / root,
        float(rates.mean()),
        float(rates.std(ddof=1) / root),
    )
