"""What a benchmark finds: how often as fast we are as something that a user might pick instead."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.turns import Pair, Timing


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        pair: what was compared.
        timing: the turns of both, or why there are none.
    """

    pair: Pair
    timing: Timing | str

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, turn by turn; empty if it could not be measured."""
        if isinstance(self.timing, str):
            return []
        return [ours / other for ours, other in zip(self.timing.ours, self.timing.other, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """For ``results.json``: medians over the turns, of the ratios also the least and the greatest."""
        pair, timing, ratios = self.pair, self.timing, self.ratios
        row: dict[str, Any] = {
            "setting": pair.setting,
            "ours_is": pair.ours.name,
            "other_is": pair.other.name,
            "unit": pair.unit,
            "aim": pair.aim,
        }
        if isinstance(timing, str):
            return {**row, "not_measured": timing}
        return {
            **row,
            "ours": statistics.median(timing.ours),
            "other": statistics.median(timing.other),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "n_turns": len(ratios),
            "ours_peak_mib": timing.ours_peak_mib,
            "other_peak_mib": timing.other_peak_mib,
        }
