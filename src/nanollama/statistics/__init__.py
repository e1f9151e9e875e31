"""What a finite number of questions, seeds or pairs can tell: intervals and tests."""

from nanollama.statistics.equivalence import equivalence_test
from nanollama.statistics.intervals import (
    Interval,
    exact_ends,
    independent_number,
    may_be_share,
    mean_interval,
    seeds_interval,
    share_interval,
    student_quantile,
)
from nanollama.statistics.multiple import holm
from nanollama.statistics.paired import (
    MIN_BOOTSTRAP,
    bootstrap_interval,
    ratio_interval,
    sign_flip_test,
)

__all__ = [
    "MIN_BOOTSTRAP",
    "Interval",
    "bootstrap_interval",
    "equivalence_test",
    "exact_ends",
    "holm",
    "independent_number",
    "may_be_share",
    "mean_interval",
    "ratio_interval",
    "seeds_interval",
    "share_interval",
    "sign_flip_test",
    "student_quantile",
]
