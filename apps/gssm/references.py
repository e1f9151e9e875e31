"""What simple methods make of sequences, beside the exact floor; all in nats a symbol.

Shapes: n sequences, T steps, V symbols.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from nanollama.errors import UserError


def unigram_entropy(symbols: np.ndarray) -> float:
    """Entropy of how often each symbol occurs, in nats."""
    counts = np.bincount(symbols.ravel())
    shares = counts[counts > 0] / symbols.size
    return float(0.0 - (shares * np.log(shares)).sum())  # 0, not -0, of one symbol


def ngram_cross_entropy(
    train: np.ndarray, test: np.ndarray, vocab_size: int, order: int, strength: float = 1.0
) -> float:
    """Cross-entropy on test sequences of n-grams counted in training sequences, in nats a symbol.

    Each order backs off to the one below (MacKay and Peto, 1995, with a fixed strength),

        p_k(x | c) = (count(c x) + strength * p_{k-1}(x | c')) / (count(c) + strength),

    c' being c without its oldest symbol, down to p_0 = 1 / V; the first symbols of a sequence have shorter
    contexts. With strength V, order 1 is Laplace's rule.

    Args:
        train: (n, T) symbols that are counted.
        test: (n, T) symbols that are predicted.
        vocab_size: V.
        order: symbols of an n-gram, the predicted one included; 1 looks at no context.
        strength: of the order below, in counts.

    Raises:
        UserError: the n-grams cannot be numbered in 63 bits.
    """
    if order < 1 or order * math.log2(vocab_size) > 62:
        raise UserError(
            f"n-grams of order {order} over {vocab_size} symbols cannot be counted: expected an order >= 1 "
            "and fewer than 2^62 of them."
        )
    p = np.full(test.shape, 1.0 / vocab_size)
    for size in range(1, min(order, test.shape[1]) + 1):
        counts = _Counts(_windows(train, size, vocab_size))
        grams = _windows(test, size, vocab_size)
        contexts = _Counts(_windows(train, size, vocab_size) // vocab_size)
        with_symbol, in_all = counts.of(grams), contexts.of(grams // vocab_size)
        late = p[:, size - 1 :]
        p[:, size - 1 :] = (with_symbol + strength * late) / (in_all + strength)
    return float(-np.log(p).mean())


def zlib_nats(symbols: np.ndarray, vocab_size: int) -> float:
    """Length, in nats a symbol, of symbols packed into as few bits as hold any, after zlib at level 9."""
    n_bits = max((vocab_size - 1).bit_length(), 1)
    bits = (symbols.reshape(-1, 1) >> np.arange(n_bits)[::-1]) & 1
    packed = np.packbits(bits.astype(np.uint8))
    return len(zlib.compress(packed.tobytes(), 9)) * 8 * math.log(2) / symbols.size


class _Counts:
    """How often each number occurs among some."""

    def __init__(self, numbers: np.ndarray) -> None:
        self._known, self._counts = np.unique(numbers, return_counts=True)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """How often each of these occurred."""
        place = np.searchsorted(self._known, numbers).clip(max=len(self._known) - 1)
        return np.where(self._known[place] == numbers, self._counts[place], 0)


def _windows(symbols: np.ndarray, size: int, vocab_size: int) -> np.ndarray:
    """Numbers (n, T - size + 1) of the n-grams that end at each step, the last symbol the lowest digit."""
    n_windows = symbols.shape[1] - size + 1
    numbers = np.zeros((len(symbols), n_windows), dtype=np.int64)
    for offset in range(size):
        numbers = numbers * vocab_size + symbols[:, offset : offset + n_windows]
    return numbers
