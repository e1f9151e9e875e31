"""Graphs with a name, as a config writes them: ``graph: sparse``, or a copy of what stands here.

`base`, `sparse`, `dense` and `low_entropy` are the set-ups of the earlier system for this study; `debug` is
small enough for a run of seconds.
"""

from __future__ import annotations

from typing import Any

X = {"name": "X", "state_dim": 32, "alpha": 0.01, "observed": True}
FOUR = ("Z1", "Z2", "Z3", "Z4")


def _four(alpha: float, parents: dict[str, list[str]]) -> dict[str, Any]:
    """Four latents of 4 states, all parents of X."""
    latents = [
        {"name": name, "state_dim": 4, "alpha": alpha, "parents": parents.get(name, [])} for name in FOUR
    ]
    return {"nodes": [*latents, {**X, "parents": list(FOUR)}]}


SETUPS: dict[str, dict[str, Any]] = {
    "base": {"nodes": [{"name": "Z1", "state_dim": 256, "alpha": 1.0}, {**X, "parents": ["Z1"]}]},
    "sparse": _four(1.0, {}),
    "dense": _four(1.0, {name: list(FOUR[:index]) for index, name in enumerate(FOUR)}),
    "low_entropy": _four(0.01, {}),
    "debug": {
        "nodes": [
            {"name": "Z1", "state_dim": 8, "alpha": 0.1},
            {"name": "Z2", "state_dim": 4, "alpha": 0.1, "parents": ["Z1"]},
            {"name": "X", "state_dim": 8, "alpha": 0.05, "parents": ["Z1", "Z2"], "observed": True},
        ]
    },
}
"""Graphs by name."""
