"""What a finite number of questions, seeds or pairs can tell: intervals and tests."""

from nanollama.statistics.intervals import (
    Interval,
    exact_ends,
    independent_number,
    mean_interval,
    seeds_interval,
    share_interval,
    student_quantile,
)
from nanollama.statistics.paired import ratio_interval, sign_flip_test

__all__ = [
    "Interval",
    "exact_ends",
    "independent_number",
    "mean_interval",
    "ratio_interval",
    "seeds_interval",
    "share_interval",
    "sign_flip_test",
    "student_quantile",
]
