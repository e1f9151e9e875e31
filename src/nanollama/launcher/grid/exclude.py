"""The runs of a grid that ``exclude`` leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nanollama.config.source import Node
from nanollama.errors import ConfigError
from nanollama.report.grouping import show_value
from nanollama.wording import show, suggest

N_LISTED = 20


class Exclusions:
    """The runs that ``exclude`` names.

    Args:
        section: the section ``grid``.
        varied: the values that it gives to each key.

    Raises:
        ConfigError: a key or a value is none that the grid varies.
    """

    def __init__(self, section: Node, varied: Mapping[str, Sequence[Node]]) -> None:
        node = section.value.get("exclude")
        self._entries: list[Node] = list(node.value) if node else []
        for entry in self._entries:
            for key, value in entry.value.items():
                if key not in varied:
                    hint = suggest(key, varied) or "."
                    raise ConfigError(
                        f"{value.place}: grid.exclude: expected keys that the grid varies, got '{key}'{hint}"
                    )
                self._check_values(key, value, [node.plain() for node in varied[key]])

    @staticmethod
    def _check_values(key: str, node: Node, known: Sequence[Any]) -> None:
        """Refuse a list of values of which one is none of the key's: the others would hide that."""
        if not isinstance(node.value, list) or any(_same(node.plain(), other) for other in known):
            return
        for entry in node.value:
            value = entry.plain()
            if not any(_same(value, other) for other in known):
                listed = ", ".join(map(show, known[:N_LISTED]))
                raise ConfigError(
                    f"{entry.place}: grid.exclude: expected values of {key} that the grid has ({listed}), "
                    f"got {show(value)}: mend or remove it."
                )

    def apply(self, points: Sequence[Mapping[str, Node]]) -> list[Mapping[str, Node]]:
        """The points that no entry excludes; each entry must exclude one."""
        if not self._entries:
            return [*points]
        plain = [{key: node.plain() for key, node in point.items()} for point in points]
        kept = [True] * len(points)
        for entry in self._entries:
            wanted: dict[str, Any] = entry.plain()
            hits = [index for index, values in enumerate(plain) if matches(values, wanted)]
            if not hits:
                raise ConfigError(f"{entry.place}: grid.exclude: {show(wanted)} is no run of the grid.")
            for index in hits:
                kept[index] = False
        return [point for point, keep in zip(points, kept, strict=True) if keep]


def matches(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Has each key the value that is wanted, or any of a list of them?"""
    return all(
        _same(values[key], value) or (isinstance(value, list) and any(_same(values[key], v) for v in value))
        for key, value in wanted.items()
    )


def _same(one: Any, other: Any) -> bool:
    """Equality in which 1 is 1.0 and not true."""
    return show_value(one) == show_value(other)
