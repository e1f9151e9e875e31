"""Pictures of attention maps: maps go in, a figure comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from apps.composition.data_config import DataConfig
from nanollama.report.style import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_INCHES = 2.6
MAX_LABELS = 24  # beyond, every second tick is labelled, and so on


def role_labels(length: int, n_outputs: int) -> list[str]:
    """What each token of an input is: P, x1 .., I (end of input), s1 .."""
    inputs = [f"x{number}" for number in range(1, length + 1)]
    return ["P", *inputs, "I", *(f"s{number}" for number in range(1, n_outputs + 1))]


def token_labels(tokens: Sequence[int], config: DataConfig) -> list[str]:
    """What each token of one sequence says: values as numbers, P, I and E."""
    names = {config.tokens.end_of_input: "I", config.tokens.end_of_sequence: "E"}
    names |= {task.problem_token: "P" for task in config.tasks}
    return [names.get(token, str(token - config.tokens.first_value)) for token in tokens]


def plot_maps(panels: Sequence[Sequence[tuple[str, np.ndarray]]], labels: Sequence[str]) -> Figure:
    """Attention maps side by side: rows of (title, map (T, T)); a row of a map is a query, a column a key.

    Tokens are named at the left and below alone, as they are the same in all maps.
    """
    n_rows, n_columns = len(panels), max(len(row) for row in panels)
    every = -(-len(labels) // MAX_LABELS)
    centres = [tick + 0.5 for tick in range(0, len(labels), every)]
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(PANEL_INCHES * n_columns + 0.6, (PANEL_INCHES + 0.3) * n_rows + 0.3))
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        for place, row in enumerate(panels):
            n_below = len(panels[place + 1]) if place + 1 < n_rows else 0
            for number, cell in enumerate(axes[place]):
                if number >= len(row):
                    cell.set_visible(False)
                    continue
                title, values = row[number]
                # Squares, not an image: they stay vectors, and the page's policy lets no image be loaded.
                image = cell.pcolormesh(values, cmap="Blues", vmin=0.0, vmax=1.0)
                cell.set_aspect("equal")
                cell.invert_yaxis()
                cell.set_title(title)
                cell.grid(visible=False)
                # Ticks of all maps would take longer than the maps.
                keys, queries = number >= n_below, number == 0
                cell.set_xticks(
                    centres if keys else [], labels[::every] if keys else [], fontsize=6, rotation=90
                )
                cell.set_yticks(centres if queries else [], labels[::every] if queries else [], fontsize=6)
        axes[0][0].set_ylabel("query")
        axes[-1][0].set_xlabel("key")
        bar = figure.colorbar(image, ax=axes.ravel().tolist(), shrink=0.8, label="attention")
        assert bar.solids is not None  # as always for a mesh
        bar.solids.set_rasterized(False)
    return figure
