"""Intervals for what a finite number of trials can tell."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """Where the truth is believed to be."""

    low: float
    high: float


def wilson_interval(n_successes: int, n_trials: int, confidence: float = 0.95) -> Interval:
    """Interval for a probability, from independent trials (Wilson, 1927, doi:10.2307/2276774).

    Unlike the interval that comes of the normal approximation it stays within 0 and 1 and keeps its coverage
    at the edges: 20 successes in 20 trials leave the truth between 0.84 and 1.

    Args:
        n_successes: from 0 to ``n_trials``.
        n_trials: how many there were; without any, everything is possible.
        confidence: how often such intervals hold the truth.

    Raises:
        ValueError: impossible counts or confidence.
    """
    if not 0 <= n_successes <= n_trials or not 0 < confidence < 1:
        raise ValueError(
            f"Expected 0 <= successes <= trials and 0 < confidence < 1, "
            f"got {n_successes} of {n_trials} at {confidence}."
        )
    if n_trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = n_successes / n_trials, z * z / n_trials
    centre = share + weight / 2
    spread = z * math.sqrt((share * (1 - share) + weight / 4) / n_trials)
    low, high = ((centre + side * spread) / (1 + weight) for side in (-1, 1))
    # At the edges one end is exactly 0 or 1; rounding must not put the share outside of its interval.
    return Interval(max(0.0, min(low, share)), min(1.0, max(high, share)))
