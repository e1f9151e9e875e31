"""What a benchmark finds: one figure of ours, beside that of something a user might pick instead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        work: what was done.
        ours: how fast we do it, in `unit`.
        unit: such as ``dialogs/s``; a unit without ``/`` is a cost, of which less is better.
        other: how fast the other does it, in the same unit; None without a comparison.
        compared_with: the other, or the aim, in words.
    """

    work: str
    ours: float
    unit: str
    other: float | None = None
    compared_with: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.other is None:
            return None
        return self.ours / self.other if "/" in self.unit else self.other / self.ours

    def to_json(self) -> dict[str, Any]:
        """For ``results.json``."""
        return {**asdict(self), "ratio": self.ratio}
