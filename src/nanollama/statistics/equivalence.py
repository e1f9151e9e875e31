"""Is there no difference that matters? What a test for a difference cannot say, however large its p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from nanollama.statistics.intervals import finite_numbers


def equivalence_test(differences: Sequence[float], margin: float) -> float:
    """Two one-sided tests (Schuirmann, 1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680).

    At the level of 5 % the mean difference lies between -margin and margin if Student's 90 % interval does.

    Args:
        differences: of pairs; at least one.
        margin: above 0: smaller differences do not matter.

    Returns:
        the larger of both p values; NaN for one difference and for ones that are all the same, as nothing
        tells how much others would differ.

    Raises:
        ValueError: there are no differences, or one is not finite; or the margin is not above 0.
    """
    finite_numbers(differences, "the differences")
    if not 0 < margin < math.inf:
        raise ValueError(f"Expected a margin above 0, and a finite one; got {margin}.")
    n_pairs = len(differences)
    if n_pairs < 2 or (spread := stdev(differences)) <= 1e-12 * max(margin, *map(abs, differences)):
        return math.nan  # rounding alone, if anything, makes them differ
    from scipy.special import stdtr

    distance = margin - abs(fmean(differences))
    return float(stdtr(n_pairs - 1, -distance / spread * math.sqrt(n_pairs)))
