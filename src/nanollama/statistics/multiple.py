"""Several tests at once: what keeps the chance of any false alarm at the level of one."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: those below the level are told, with no false one among them but for that chance.

    Holm, 1979, Scandinavian Journal of Statistics 6, 65-70. The tests may depend on each other in any way.

    Raises:
        ValueError: one does not lie between 0 and 1.
    """
    if not all(0 <= p_value <= 1 for p_value in p_values):
        raise ValueError(
            f"Expected p values from 0 to 1, and 1 for a test that tells nothing; got {list(p_values)}."
        )
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
