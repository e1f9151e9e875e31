"""What can be known of a sequence: its exact likelihood, the next symbol's distribution, the hidden states.

The forward algorithm (Rabiner, 1989, section III) over the states of all latents together, without their
product matrix: a step contracts each node's table along the node's own axis, parents first, so that the axes
of its parents already hold new states. With S states together a step costs S times the sum of their numbers.
A context is one more axis that never moves, so that the mixture over a library is exact too.

All probabilities are float64, scaled to sum to 1 after every step; a sequence so unlikely that this loses
digits goes through `apps.gssm.log_floor` instead. Likelihoods are in nats.

Shapes: n sequences, T steps, V symbols, C contexts (1 without a library), D_1 ... D_L states of the latents,
parents first. A belief is (C, D_1, ..., D_L, n).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from apps.gssm.kernels import Kernels
from apps.gssm.log_floor import log_pass
from apps.gssm.tables import Tables
from nanollama.errors import UserError

N_BELIEF = 1 << 21
"""Most numbers of a belief (16 MiB); more sequences take turns."""
LEAST = 1e-150
"""Where a symbol is less likely than this, given those before it, the sequence is computed in logarithms."""


@dataclass(frozen=True)
class Exact:
    """What is known exactly of n sequences.

    Args:
        log_likelihood: (n, T) log p(symbol t | symbols before it), in nats; a row adds up to its sequence's.
        next_symbols: (n, T, V) p(symbol t = . | symbols before it); None if not asked for.
        posteriors: p(state = . | symbols up to t), (n, T, D) by name of the latent, and (n, T, C) as
            `CONTEXT` where there is a library; None if not asked for.
    """

    log_likelihood: np.ndarray
    next_symbols: np.ndarray | None
    posteriors: Mapping[str, np.ndarray] | None


class Floor:
    """Exact inference for the source of some kernels.

    Raises:
        UserError: every sequence has kernels of its own, so that nothing exact is known.
    """

    def __init__(self, kernels: Kernels) -> None:
        if not kernels.graph.has_floor:
            raise UserError(
                "The graph draws the kernels of its context nodes afresh for every sequence, and then no "
                "exact floor is known: give n_contexts, the size of a library to take them from."
            )
        self.graph = kernels.graph
        self._tables = Tables(kernels)

    def log_likelihood(self, symbols: np.ndarray) -> np.ndarray:
        """log p(symbol t | symbols before it) in nats, (n, T), of sequences (n, T)."""
        return self.exact(symbols).log_likelihood

    def exact(self, symbols: np.ndarray, next_symbols: bool = False, posteriors: bool = False) -> Exact:
        """What is known of sequences (n, T) of integers from 0 to V - 1.

        Args:
            symbols: the sequences.
            next_symbols: also the distribution of each symbol given those before it.
            posteriors: also that of each latent given the symbols so far.

        Raises:
            UserError: a symbol is not in the vocabulary.
        """
        n_symbols = self.graph.vocab_size
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < n_symbols:
            wrong = symbols.min() if symbols.min() < 0 else symbols.max()
            raise UserError(
                f"The sequences hold the symbol {wrong}; the graph has symbols 0 to {n_symbols - 1}."
            )
        found = _allocate(self._tables, symbols.shape, next_symbols, posteriors)
        width = max(N_BELIEF // self._tables.n_states, 1)
        for start in range(0, len(symbols), width):
            part = _part(found, slice(start, start + width))
            _scaled_pass(self._tables, symbols[start : start + width], part)
            for row in np.flatnonzero(part.log_likelihood.min(axis=1, initial=0.0) < np.log(LEAST)):
                log_pass(self._tables, symbols[start + row], _part(part, row))
        return found


def _allocate(tables: Tables, shape: tuple[int, ...], next_symbols: bool, posteriors: bool) -> Exact:
    return Exact(
        np.empty(shape),
        np.empty((*shape, tables.n_symbols)) if next_symbols else None,
        {name: np.empty((*shape, size)) for name, size in tables.sizes.items()} if posteriors else None,
    )


def _part(whole: Exact, rows: slice | np.integer) -> Exact:
    """Views of some rows."""
    return Exact(
        whole.log_likelihood[rows],
        None if whole.next_symbols is None else whole.next_symbols[rows],
        None if whole.posteriors is None else {name: each[rows] for name, each in whole.posteriors.items()},
    )


def _scaled_pass(tables: Tables, symbols: np.ndarray, out: Exact) -> None:
    """Write what is known of sequences (n, T) that are computed together to `out`."""
    n, n_steps = symbols.shape
    belief, other = np.zeros((tables.n_states, n)), np.empty((tables.n_states, n))
    belief.reshape(tables.n_contexts, -1, n)[:, 0] = 1 / tables.n_contexts
    weights = np.empty((len(tables.emission), n))
    ones, columns = np.ones(tables.n_states), np.ascontiguousarray(symbols.T)
    masses = np.empty((n_steps, n))
    for t in range(n_steps):
        for move in tables.moves:
            shape = (*move.shape[:-1], move.shape[-1] * n)
            np.matmul(move.table, belief.reshape(shape), out=other.reshape(shape))
            belief, other = other, belief
        if out.next_symbols is not None:
            seen = belief.reshape(*tables.shape, n).sum(axis=tables.unseen_axes)
            out.next_symbols[:, t] = (tables.emission.T @ seen.reshape(-1, n)).T
        tables.emission.take(columns[t], axis=1, out=weights, mode="clip")
        laid_out = belief.reshape(*tables.shape, n)
        laid_out *= weights.reshape(*tables.seen, n)
        mass = np.matmul(ones, belief, out=masses[t])
        # A belief that is lost stays 0: its sequence is computed again, in logarithms.
        belief *= np.divide(1.0, mass, out=np.zeros(n), where=mass > LEAST)
        if out.posteriors is not None:
            for name, posterior in out.posteriors.items():
                posterior[:, t] = _marginal(belief, tables, name).T
    with np.errstate(divide="ignore"):
        out.log_likelihood[:] = np.log(masses.T)


def _marginal(belief: np.ndarray, tables: Tables, name: str) -> np.ndarray:
    """The distribution (D, n) of one axis; products with ones are faster than sums over outer axes."""
    axis, n = tables.names.index(name), belief.shape[-1]
    before = math.prod(tables.shape[:axis])
    size, after = tables.shape[axis], math.prod(tables.shape[axis + 1 :])
    inner = np.ones(before) @ belief.reshape(before, -1)
    marginal: np.ndarray = np.ones(after) @ inner.reshape(size, after, n)
    return marginal
