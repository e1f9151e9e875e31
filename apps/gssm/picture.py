"""The picture of a source: a column a node, on top who sees whom, below what each moves to.

Latents stand in the order in which they move, the observed node last. Links between latents run above the
nodes, those to the observed node below. A matrix has a row an input state and a column a new state; dark is
likely. Large ones are drawn by their most likely entries. Entropies are estimated from sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from apps.gssm.examiner import build_test_set
from apps.gssm.graph import NodeConfig
from apps.gssm.kernels import groups
from apps.gssm.source import Source
from nanollama.report.page import Picture
from nanollama.report.style import COLOURS, INK, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, MARGIN = 2.15, 0.35
"""Width of a node's column and of the picture's edges, in inches."""
GRAPH, WORDS, MATRIX, TITLE = 1.9, 0.5, 1.35, 0.7
"""Heights in inches: of the graph, of what is said of a node, of a matrix with its title, of the headline."""
MAX_CELLS = 48
"""Rows and columns of a matrix that are drawn; of larger ones, the largest entry of each block."""
MODE_COLOURS = {"default": COLOURS[0], "slow": COLOURS[2], "dead": COLOURS[1], "context": COLOURS[3]}
MAX_NAME = 50.0
"""Letters of a node's name times their size in points, so that they stay within its circle."""
RADIUS, MAX_ARC = 0.3, 0.85
"""Of a node, and how far a link may leave their line, in inches."""


def plot_source(name: str, source: Source, n_sequences: int) -> Figure:
    """Draw a source; entropies are those of `n_sequences` sequences of its test.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    graph = source.graph
    n_rows = max(len(groups(graph, node)) for node in graph.nodes)
    width = 2 * MARGIN + COLUMN * len(graph.nodes)
    height = TITLE + GRAPH + WORDS + MATRIX * n_rows + 0.2
    entropies = node_entropies(source, n_sequences)
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")  # everything has its place in inches
        figure.text(MARGIN / width, 1 - 0.12 / height, name, fontsize=13, weight="bold", va="top")
        details = _details(source, n_sequences)
        figure.text(MARGIN / width, 1 - 0.37 / height, details, fontsize=8.5, va="top", alpha=0.75)
        top = figure.add_axes(
            (MARGIN / width, 1 - (TITLE + GRAPH) / height, 1 - 2 * MARGIN / width, GRAPH / height)
        )
        _draw_graph(top, source)
        for column, node in enumerate(graph.order):
            left = MARGIN + COLUMN * column
            above = height - TITLE - GRAPH
            words = _node_words(node, entropies.get(node.name))
            figure.text((left + COLUMN / 2) / width, above / height, words, fontsize=8, ha="center", va="top")
            for row, (title, matrix) in enumerate(_matrices(source, node)):
                box = (left + 0.3, above - WORDS - MATRIX * (row + 1) + 0.16, COLUMN - 0.45, MATRIX - 0.42)
                axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
                _draw_matrix(axes, title, matrix, MODE_COLOURS[node.mode])
    return figure


def source_picture(name: str, source: Source, n_sequences: int) -> Picture:
    """The picture of a source, for a page."""
    links = [f"{node.name} sees {' and '.join(node.parents)}" for node in source.graph.nodes if node.parents]
    caption = "The source: who sees whom, what each node moves to, and how much chance is left to it."
    alt = f"{'; '.join(links) or 'No node sees another'}. {_details(source, n_sequences)}."
    return Picture(f"source_{name}", plot_source(name, source, n_sequences), caption, alt)


def node_entropies(source: Source, n_sequences: int) -> Mapping[str, float]:
    """Entropy of each node's new state given what it sees, in nats, averaged over sequences and steps.

    Nodes whose kernels are drawn afresh for every sequence are left out.
    """
    graph, sample = source.graph, source.draw_test(n_sequences)
    states = {**sample.latents, graph.observed.name: sample.symbols}
    found = {}
    for node in graph.order:
        if node.name not in source.kernels.log_matrices:
            continue
        table = np.exp(source.kernels.log_table(node))
        entropy = -(table * np.log(np.maximum(table, 1e-300))).sum(axis=-1)
        index: list[np.ndarray] = [np.zeros((len(sample.symbols), 1), dtype=np.int64)]
        if len(table) > 1 and sample.contexts is not None:
            index = [sample.contexts[:, None]]
        for each in graph.inputs(node):
            path = states[each.name]
            old = np.concatenate([np.zeros_like(path[:, :1]), path[:, :-1]], axis=1)
            index.append(old if each.name == node.name else path)
        found[node.name] = float(np.broadcast_to(entropy[tuple(index)], sample.symbols.shape).mean())
    return found


def _details(source: Source, n_sequences: int) -> str:
    graph, test = source.graph, build_test_set(source, n_sequences)
    product = " x ".join(str(node.state_dim) for node in graph.latents) or "no"
    floor = "no exact floor"
    if test.floor_nats is not None:
        rates = test.floor_nats.mean(axis=1)
        error = rates.std(ddof=1) / np.sqrt(len(rates))
        floor = f"exact floor {rates.mean():.3f} ± {error:.3f} nats a symbol"
    return (
        f"{product} latent states · {graph.vocab_size} symbols · kernel seed {source.kernel_seed}\n"
        f"{floor} · unigrams {test.unigram_nats:.3f} · uniform {np.log(graph.vocab_size):.3f}"
    )


def _node_words(node: NodeConfig, entropy: float | None) -> str:
    mode = "" if node.mode == "default" else f" · {node.mode}"
    told = "kernels of every sequence its own" if entropy is None else f"{entropy:.2f} nats a step"
    what = "symbols" if node.observed else "states"
    return f"{node.state_dim} {what} · alpha {node.alpha:.3g}{mode}\n{told}"


def _matrices(source: Source, node: NodeConfig) -> list[tuple[str, np.ndarray]]:
    """Title and probabilities (R, D) of each of a node's matrices, those of the first context."""
    found = source.kernels.log_matrices.get(node.name, ())
    titles = [
        " x ".join("own old state" if name == node.name else name for name in group) or "nothing"
        for group in groups(source.graph, node)
    ]
    of_many = f" (1 of {len(found[0])})" if found and len(found[0]) > 1 else ""
    return [(f"from {title}{of_many}", np.exp(each[0])) for title, each in zip(titles, found, strict=False)]


def _draw_matrix(axes: Axes, title: str, matrix: np.ndarray, colour: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("kernel", ["white", colour])
    # Squares, not an image: they stay vectors. The root shows what is rare, too.
    axes.pcolormesh(np.sqrt(_shrink(matrix)), cmap=colours, vmin=0.0, vmax=1.0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_title(title, fontsize=7.5, pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel(f"{matrix.shape[0]}", fontsize=7, labelpad=2)
    axes.set_xlabel(f"{matrix.shape[1]}", fontsize=7, labelpad=2)
    for side in axes.spines.values():
        side.set(visible=True, linewidth=0.6, alpha=0.5)


def _shrink(matrix: np.ndarray) -> np.ndarray:
    """At most `MAX_CELLS` rows and columns, each entry the largest of a block."""
    for axis in (0, 1):
        if matrix.shape[axis] > MAX_CELLS:
            starts = np.linspace(0, matrix.shape[axis], MAX_CELLS, endpoint=False).astype(int)
            matrix = np.maximum.reduceat(matrix, starts, axis=axis)
    return matrix


def _draw_graph(axes: Axes, source: Source) -> None:
    """Nodes over the middles of their columns, in inches."""
    from matplotlib.patches import Circle

    graph = source.graph
    width = COLUMN * len(graph.nodes)
    axes.set(xlim=(0, width), ylim=(0, GRAPH))
    axes.axis("off")
    places = {node.name: (COLUMN * (i + 0.5), GRAPH / 2) for i, node in enumerate(graph.order)}
    for node in graph.order:
        for parent in node.parents:
            _draw_link(axes, places[parent], places[node.name], node.observed)
    for node in graph.order:
        x, y = places[node.name]
        colour = MODE_COLOURS[node.mode]
        if not node.observed:
            _draw_loop(axes, x, y)
        face = colour if node.observed else "white"
        axes.add_patch(Circle((x, y), RADIUS, facecolor=face, edgecolor=colour, linewidth=2.2, zorder=3))
        ink = "white" if node.observed else INK
        size = min(11.0, MAX_NAME / len(node.name))
        axes.text(
            x, y, node.name, ha="center", va="center", fontsize=size, weight="bold", color=ink, zorder=4
        )


def _draw_link(axes: Axes, start: tuple[float, float], end: tuple[float, float], below: bool) -> None:
    from matplotlib.patches import FancyArrowPatch

    distance = (end[0] - start[0]) / COLUMN
    # Neighbouring latents are linked by a line, all others by arcs that rise with the distance.
    height = 0.0 if distance < 1.5 and not below else min(0.35 + 0.15 * (distance - 1), MAX_ARC)
    bend = 2 * height / (distance * COLUMN)
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={bend if below else -bend}",
            arrowstyle="-|>,head_length=6,head_width=3",
            shrinkA=RADIUS * 72 + 2,
            shrinkB=RADIUS * 72 + 2,
            linewidth=1.2,
            color=INK,
            alpha=0.75,
            zorder=2,
        )
    )


def _draw_loop(axes: Axes, x: float, y: float) -> None:
    """A latent sees its own old state."""
    from matplotlib.patches import FancyArrowPatch

    reach = RADIUS * 0.75
    axes.add_patch(
        FancyArrowPatch(
            (x - reach * 0.6, y + RADIUS * 0.85),
            (x + reach * 0.6, y + RADIUS * 0.85),
            connectionstyle="arc3,rad=-1.5",
            arrowstyle="-|>,head_length=4,head_width=2",
            shrinkA=0,
            shrinkB=2,
            linewidth=1.0,
            color=INK,
            alpha=0.75,
            zorder=2,
        )
    )
