"""Contestants that take turns, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Step = Callable[[int], object]
"""Does the work of the step of this number."""


def seconds_a_step(
    contestants: Mapping[str, Step], n_turns: int, n_steps: int, n_warm: int
) -> dict[str, float]:
    """Seconds of a step of each contestant, the median over its turns.

    A turn is several steps, as caches and allocators serve one loop better than loops that alternate. All
    contestants take steps of the same numbers.

    Args:
        contestants: by name.
        n_turns: of each.
        n_steps: of a turn.
        n_warm: steps before the first turn that are not counted; compiled loops meet their shapes here.
    """
    for step in contestants.values():
        for number in range(n_warm):
            step(number)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(n_turns):
        first = n_warm + turn * n_steps
        for name, step in contestants.items():
            began = time.perf_counter()
            for number in range(first, first + n_steps):
                step(number)
            seconds[name].append((time.perf_counter() - began) / n_steps)
    return {name: statistics.median(times) for name, times in seconds.items()}
