"""What pairs tell, as two runs of one seed that differ in one thing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from nanollama.statistics.intervals import Interval, mean_interval


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """The geometric mean of the ratios of pairs with its 95 % interval: Student's, of their logarithms.

    One pair has no interval, nor have pairs of the same ratio.

    Raises:
        ValueError: there are no ratios, or one is not above 0.
    """
    mean, low, high, n_pairs = mean_interval([math.log(ratio) for ratio in ratios])
    return Interval(math.exp(mean), math.exp(low), math.exp(high), n_pairs)


def sign_flip_test(differences: Sequence[float]) -> float:
    """Chance of a sum this large if each difference were as likely to have the other sign; one-sided, exact.

    Args:
        differences: of pairs; all sign patterns are counted, so some twenty at most.

    Returns:
        the share of sign patterns whose sum is at least the observed one.
    """
    observed = np.asarray(differences, dtype=float)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(observed))))
    slack = 1e-12 * np.abs(observed).sum()  # sums that are equal but for rounding
    return float((signs @ observed >= observed.sum() - slack).mean())
