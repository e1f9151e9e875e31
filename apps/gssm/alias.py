"""Draws from many discrete distributions in constant time each: the alias method of Walker (1977).

A row of D probabilities becomes D columns of equal width, each shared by at most two states: a column k keeps
its own state with probability ``keep[k]`` and gives ``alias[k]`` otherwise. A number of 32 bits says which
column and which side of it, so what is drawn differs from the probabilities by less than 2^-32, and states
of a probability below 2^-33 are never drawn.

Shapes: R rows, D states.
"""

from __future__ import annotations

import numpy as np

N_BITS = 32  # of the numbers that decide


class AliasTable:
    """Alias tables of the rows of `probabilities` (R, D), each of which sums to 1."""

    def __init__(self, probabilities: np.ndarray) -> None:
        self.n_states = probabilities.shape[1]
        keep, alias = build(probabilities)
        own = np.broadcast_to(np.arange(self.n_states), alias.shape)
        # States have 32 bits: on pages touched for the first time, memory is most of the cost.
        self._sides = np.stack([own, alias], axis=-1).ravel().astype(np.int32)
        # Twice the number of the column and, below it, what a number may add before it is carried over to
        # the other side: one addition and one shift choose the side, faster than a comparison and a mask.
        room = (1 << N_BITS) - np.rint(keep.ravel() * 2.0**N_BITS).astype(np.int64)
        self._columns = (np.arange(0, 2 * room.size, 2) << N_BITS) + room

    def draw(self, rows: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
        """Write a state (int32) for each row and number of 32 bits (int64), all of one shape, to `out`."""
        index, inside = self._locate(rows, numbers)
        inside += self._columns.take(index)
        inside >>= N_BITS
        self._sides.take(inside, out=out, mode="clip")  # with `out`, the default mode makes a copy

    def walk(
        self, start: np.ndarray, stride: int, rows: np.ndarray, numbers: np.ndarray, out: np.ndarray
    ) -> None:
        """Chains whose row also depends on where they are: row ``rows[t] + stride * old state``.

        Args:
            start: (n,) int32, states before the first step.
            stride: of the old state in the number of the row.
            rows: (T, n) int64, the part of the number of the row that does not depend on the old state.
            numbers: (T, n) int64, of 32 bits.
            out: (T, n) int32, the states.
        """
        fixed, inside = self._locate(rows, numbers)
        scale = np.array(stride * self.n_states)
        shift = np.array(N_BITS)
        index, side = np.empty(len(start), np.int64), np.empty(len(start), np.int64)
        old = start
        for known, number, new in zip(fixed, inside, out, strict=True):
            np.multiply(old, scale, out=index)
            np.add(index, known, out=index)
            self._columns.take(index, out=side, mode="clip")
            np.add(side, number, out=side)
            np.right_shift(side, shift, out=side)
            self._sides.take(side, out=new, mode="clip")
            old = new

    def _locate(self, rows: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The column of the table each number falls into, and how far into it, in 32 bits."""
        inside = numbers * self.n_states
        index = inside >> N_BITS
        inside &= (1 << N_BITS) - 1
        index += rows * self.n_states
        return index, inside


def build(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``keep`` and ``alias`` (R, D) of rows of probabilities, all rows at once.

    Light states (less than 1 / D) are filled up one by one by the current heavy state; when that has too
    little left it becomes a light one itself, filled up by the next heavy state. Rounding is left to the last
    heavy state, so that a state of probability 0 never keeps anything.
    """
    n_rows, n_states = probabilities.shape
    weights = probabilities * n_states
    light = weights < 1.0
    every = np.arange(n_rows)
    light[every, weights.argmax(axis=1)] = False
    order = np.argsort(light, axis=1, kind="stable")  # heavy states first
    weights = np.take_along_axis(weights, order, axis=1)
    last_heavy = n_states - 1 - light.sum(axis=1)
    heavy, next_light = np.zeros(n_rows, dtype=np.int64), last_heavy + 1
    left = weights[:, 0].copy()
    keep, alias = np.empty_like(weights), np.empty_like(order)
    for _ in range(n_states):
        fills = (next_light < n_states) & ((left >= 1.0) | (heavy == last_heavy))
        slot = np.where(fills, next_light, heavy)
        kept = np.where(fills, weights[every, slot], np.where(heavy == last_heavy, 1.0, left))
        giver = np.where(fills, heavy, np.minimum(heavy + 1, last_heavy))
        state = order[every, slot]
        keep[every, state], alias[every, state] = kept, order[every, giver]
        left = np.where(fills, left, weights[every, giver]) - (1.0 - np.where(fills, kept, left))
        heavy += ~fills & (heavy < last_heavy)
        next_light += fills
    return keep, alias
