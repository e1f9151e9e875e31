"""The names of the runs of a grid, which say what sets them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from nanollama.config.source import Node
from nanollama.report.grouping import short_keys
from nanollama.wording import show

MAX_NAME_LENGTH = 80


def name_runs(keys: Sequence[str], points: Sequence[Mapping[str, Node]]) -> list[str]:
    """Readable names such as ``d_model-16_n_layers-2_seed-0``; those that are not unique get a number.

    Args:
        keys: what varies, in the order in which names say it.
        points: the value of each key in each run.
    """
    short = short_keys(keys)
    labels = {key: re.sub(r"[^A-Za-z0-9_.-]+", "-", ending) for key, ending in short.items()}
    words = {key: _words(points, key) for key in labels}
    names = []
    for index in range(len(points)):
        parts = (f"{label}-{words[key][index]}" for key, label in labels.items())
        names.append("_".join(parts)[:MAX_NAME_LENGTH])
    twice = {name for name, n_times in Counter(name.lower() for name in names).items() if n_times > 1}
    width = len(str(len(names)))
    return [f"{name}_{index:0{width}}" if name.lower() in twice else name for index, name in enumerate(names)]


def _words(points: Sequence[Mapping[str, Node]], key: str) -> list[str]:
    """What a name says about one key, for each point: the value, or for a section or list its number."""
    words: dict[int, str] = {}  # by identity: points share the nodes of their axes
    n_sections = 0
    for node in (point[key] for point in points):
        if id(node) in words:
            continue
        if isinstance(node.value, dict | list):
            words[id(node)] = str(n_sections)
            n_sections += 1
        else:
            text = node.value if isinstance(node.value, str) else show(node.value)
            words[id(node)] = re.sub(r"[^A-Za-z0-9.+-]+", "-", text).replace("+", "").strip("-") or "none"
    return [words[id(point[key])] for point in points]
