"""The forward pass in logarithms: slow, and right for sequences of any likelihood; see `apps.gssm.floor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from apps.gssm.tables import Move, Tables

if TYPE_CHECKING:
    from apps.gssm.floor import Exact


def log_pass(tables: Tables, symbols: np.ndarray, out: Exact) -> None:
    """Write what is known of one sequence (T,) to `out`, whose arrays lack the axis of sequences."""
    belief: np.ndarray = np.full(tables.shape, -np.inf)
    belief.reshape(tables.n_contexts, -1)[:, 0] = -np.log(tables.n_contexts)
    for t, symbol in enumerate(symbols):
        for move in tables.moves:
            belief = _moved(belief, move).reshape(tables.shape)
        if out.next_symbols is not None:
            seen = np.logaddexp.reduce(belief, axis=tables.unseen_axes).reshape(-1, 1)
            out.next_symbols[t] = np.exp(np.logaddexp.reduce(seen + tables.log_emission, axis=0))
        belief = belief + tables.log_emission[:, symbol].reshape(tables.seen)
        mass = np.logaddexp.reduce(belief, axis=None)
        belief -= mass
        out.log_likelihood[t] = mass
        for axis, name in enumerate(tables.names):
            if out.posteriors is not None and name in out.posteriors:
                others = tuple(other for other in range(belief.ndim) if other != axis)
                out.posteriors[name][t] = np.exp(np.logaddexp.reduce(belief, axis=others))


def _moved(belief: np.ndarray, move: Move) -> np.ndarray:
    """The belief after one latent has moved, one of its new states at a time to save memory."""
    before = belief.reshape(move.shape)
    after = np.empty_like(before)
    for state in range(move.log_table.shape[-2]):
        reached = before + move.log_table[..., state, :, None]
        after[..., state, :] = np.logaddexp.reduce(reached, axis=-2)
    return after
