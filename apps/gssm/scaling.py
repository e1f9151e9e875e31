"""Power laws: how the excess over the exact floor falls with parameters, data and compute.

excess = (x / x_0) ^ -exponent, a line between logarithms, fitted by least squares to each seed's points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nanollama.statistics import Interval, mean_interval

Points = Sequence[tuple[float, float]]
"""Of one seed: a size, and the excess in nats at it."""


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law.

    Args:
        exponent: of the law, with its interval over seeds.
        log_scale: log excess at x = 1, averaged over seeds.
    """

    exponent: Interval
    log_scale: float

    def __call__(self, x: float) -> float:
        """The excess at a size."""
        return math.exp(self.log_scale - self.exponent.mean * math.log(x))


def fit_power_law(by_seed: Mapping[object, Points]) -> PowerLaw | None:
    """The law of some seeds; None where none of them has two sizes with an excess above 0."""
    slopes, scales = [], []
    for points in by_seed.values():
        kept = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
        if len({x for x, _ in kept}) > 1:
            sizes, excesses = np.transpose(kept)
            slope, scale = np.polyfit(sizes, excesses, deg=1)
            slopes.append(-float(slope))
            scales.append(float(scale))
    if not slopes:
        return None
    return PowerLaw(mean_interval(slopes), float(np.mean(scales)))
