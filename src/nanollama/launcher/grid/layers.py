"""The configs of the runs of a grid, as trees that share what the runs have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nanollama.config.source import Node, set_node
from nanollama.launcher.grid.arms import ARM, Arm


class Layers:
    """The rest of a grid's file, with what a run's arm and its place on the axes set laid over it.

    Each section that runs share is made, and written as JSON, once: a grid has up to 10,000 of them.

    Args:
        base: the config without the grid.
        arms: of the grid, by name.
    """

    def __init__(self, base: Node, arms: Mapping[str, Arm]) -> None:
        self._base, self._arms = base, arms
        self._made: dict[tuple[int, ...], Node] = {}

    def under(self, point: Mapping[str, Node]) -> Node:
        """The tree with the values of a point, the first of which, that of the seeds, is set last."""
        tree, path = self._base, tuple[int, ...]()
        if self._arms:
            arm = self._arms[point[ARM].value]
            path = (id(arm),)
            tree = self._kept(path, lambda: arm.lay_over(self._base))
        keys = [key for key in reversed([*point]) if not (self._arms and key == ARM)]
        for key in keys[:-1]:
            path = (*path, id(point[key]))  # points share the nodes of their axes
            tree = self._kept(path, partial(set_node, tree, key, point[key]))
        return set_node(tree, keys[-1], point[keys[-1]]) if keys else tree

    def _kept(self, path: tuple[int, ...], make: Callable[[], Node]) -> Node:
        if path not in self._made:
            self._made[path] = make()
        return self._made[path]
