"""Sources of equal difficulty: which alphas give an entropy rate.

How far a model is above the floor depends on the entropy rate itself, so graphs are compared at equal ones.
One alpha is sought for some nodes, with common random numbers: every alpha is tried on kernels and sequences
of the same seeds, so that the rate hardly jumps from one alpha to the next.

``python -m apps.gssm.difficulty CONFIG [key=value ...]`` prints a table of alphas against entropy rates.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from apps.gssm.entropy import Entropy, entropy
from apps.gssm.graph import GraphConfig
from apps.gssm.kernels import draw_kernels
from apps.gssm.printing import show_table
from apps.gssm.settings import DifficultyConfig
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.wording import suggest

ALPHAS = (1e-3, 1e2)
"""The range in which an alpha is sought; beyond it rows are one state, or uniform, to within a thousandth."""


@dataclass(frozen=True)
class Trial:
    """How an entropy rate is estimated.

    Args:
        n_sequences: that are drawn.
        seq_len: symbols of each.
        kernel_seed: of the kernels.
        sequence_seed: of the sequences.
    """

    n_sequences: int
    seq_len: int
    kernel_seed: int
    sequence_seed: int


@dataclass(frozen=True)
class Match:
    """An alpha and the entropy it gives.

    Args:
        alpha: of the nodes that were changed.
        graph: with that alpha.
        entropy: in nats, with standard errors.
    """

    alpha: float
    graph: GraphConfig
    entropy: Entropy


def with_alpha(graph: GraphConfig, nodes: Sequence[str], alpha: float) -> GraphConfig:
    """The graph with another alpha of some nodes.

    Raises:
        UserError: there is no such node.
    """
    names = [node.name for node in graph.nodes]
    for name in nodes:
        if name not in names:
            hint = suggest(name, names)
            raise UserError(f"The graph has no node '{name}'{hint} (known: {', '.join(names)})")
    changed = tuple(
        node.model_copy(update={"alpha": alpha}) if node.name in nodes else node for node in graph.nodes
    )
    return graph.model_copy(update={"nodes": changed})


def measure(graph: GraphConfig, nodes: Sequence[str], alpha: float, trial: Trial) -> Match:
    """The entropy at one alpha of some nodes."""
    changed = with_alpha(graph, nodes, alpha)
    kernels = draw_kernels(changed, trial.kernel_seed)
    found = entropy(kernels, trial.n_sequences, trial.seq_len, trial.sequence_seed)
    return Match(alpha, changed, found)


def match_entropy(
    graph: GraphConfig, nodes: Sequence[str], target_nats: float, tolerance_nats: float, trial: Trial
) -> Match:
    """The alpha of some nodes at which the entropy rate is within a tolerance of a target, by bisection.

    Args:
        graph: whose other nodes stay as they are.
        nodes: that get the alpha, such as all, or the observed one.
        target_nats: the entropy rate that is wanted.
        tolerance_nats: how far from it is near enough.
        trial: how the rate is estimated.

    Raises:
        UserError: the target is out of reach of any alpha, or the entropy does not grow with alpha.
    """
    low, high = (measure(graph, nodes, alpha, trial) for alpha in ALPHAS)
    tried = [low, high]
    for end in tried:
        if abs(end.entropy.rate_nats - target_nats) <= tolerance_nats:
            return end
    if not low.entropy.rate_nats < target_nats < high.entropy.rate_nats:
        raise UserError(
            f"No alpha of {', '.join(nodes)} gives an entropy rate of {target_nats:g} nats: from alpha = "
            f"{ALPHAS[0]:g} to {ALPHAS[1]:g} it goes from {low.entropy.rate_nats:.3f} to "
            f"{high.entropy.rate_nats:.3f}; choose a target between, other nodes, or another kernel seed "
            f"than {trial.kernel_seed}."
        )
    while math.log(high.alpha / low.alpha) > 1e-9:
        middle = measure(graph, nodes, math.sqrt(low.alpha * high.alpha), trial)
        tried.append(middle)
        # Rates are estimates: falls within their standard errors are none.
        check_growth(tried, max(tolerance_nats, 2 * middle.entropy.rate_error))
        if abs(middle.entropy.rate_nats - target_nats) <= tolerance_nats:
            return middle
        low, high = (middle, high) if middle.entropy.rate_nats < target_nats else (low, middle)
    raise UserError(
        f"The entropy rate jumps from {low.entropy.rate_nats:.4f} to {high.entropy.rate_nats:.4f} nats at "
        f"alpha = {low.alpha:.4g}, past the target {target_nats:g}: allow more than {tolerance_nats:g} nats "
        "from it."
    )


def check_growth(tried: Sequence[Match], slack_nats: float) -> None:
    """See that the entropy grows with alpha, but for as much as `slack_nats`.

    Raises:
        UserError: it falls, so that a bisection could miss the target.
    """
    for less, more in itertools.pairwise(sorted(tried, key=lambda match: match.alpha)):
        if more.entropy.rate_nats < less.entropy.rate_nats - slack_nats:
            raise UserError(
                f"The entropy rate falls from {less.entropy.rate_nats:.3f} to {more.entropy.rate_nats:.3f} "
                f"nats as alpha grows from {less.alpha:.4g} to {more.alpha:.4g}, so it cannot be bisected: "
                "change the alpha of other nodes, or draw more sequences."
            )


def alpha_table(
    graph: GraphConfig, nodes: Sequence[str], alphas: Sequence[float], trials: Sequence[Trial]
) -> list[dict[str, float | int]]:
    """Rows of alpha, seeds and entropy rate, one an alpha and trial."""
    return [
        {
            "alpha": alpha,
            "kernel_seed": trial.kernel_seed,
            "sequence_seed": trial.sequence_seed,
            "rate_nats": match.entropy.rate_nats,
            "rate_error": match.entropy.rate_error,
        }
        for alpha, trial in itertools.product(alphas, trials)
        for match in [measure(graph, nodes, alpha, trial)]
    ]


def run(config: DifficultyConfig) -> None:
    """Print the rates of alphas, then the alphas of rates, and write both where the config says.

    Raises:
        UserError: a rate is out of reach; told when the others are printed and written.
    """
    source = config.source
    nodes = config.nodes or [node.name for node in source.graph.nodes]
    trials = [
        Trial(config.n_sequences, source.seq_len + 1, seed, source.sequence_seed)
        for seed in config.kernel_seeds
    ]
    rows: list[dict[str, float | int | None]] = [
        {"target_nats": None, **row} for row in alpha_table(source.graph, nodes, config.alphas, trials)
    ]
    out_of_reach: UserError | None = None
    for rate, trial in itertools.product(config.rates_nats, trials):
        try:
            found = match_entropy(source.graph, nodes, rate, config.tolerance_nats, trial)
        except UserError as error:
            out_of_reach = out_of_reach or error
            continue
        rows += [
            {"target_nats": rate, **row} for row in alpha_table(source.graph, nodes, [found.alpha], [trial])
        ]
    if rows:
        show_table(rows, config.out)
    if out_of_reach is not None:
        raise out_of_reach


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(DifficultyConfig, run, argv, "Tell which alphas give which entropy rate, and back.")


if __name__ == "__main__":
    sys.exit(main())
