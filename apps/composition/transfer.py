"""Learn one task, then another: ``python -m apps.composition.transfer CONFIG [key=value ...]``.

For every seed a model learns the source task; then the target task is learned from it and from scratch. What
is compared is the number of epochs until the target is learned. Runs that are there already are used as they
are. Writes ``transfer.csv``, ``transfer.json`` and the learning curves into the folder of the experiment.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from apps.composition.held_out import check_apart
from apps.composition.settings import CompositionConfig, TransferConfig
from apps.composition.tables import write_csv
from apps.composition.train import run as train_run
from nanollama.entrypoint import run_main
from nanollama.monitor.files import write_atomically
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_curves
from nanollama.report.page import Picture, Section
from nanollama.report.tables import ABSENT, Table
from nanollama.statistics import mean_interval, ratio_interval, sign_flip_test
from nanollama.wording import count

TARGETS = ("scratch", "transfer")


@dataclass(frozen=True)
class Pair:
    """Epochs until the target task was learned, in both runs of a seed.

    Args:
        seed: of the pair.
        scratch_epochs: from new weights; where it was not learned, of the whole run: a lower bound.
        transfer_epochs: from the source.
        scratch_learned: was the threshold reached?
        transfer_learned: was it?
    """

    seed: int
    scratch_epochs: float
    transfer_epochs: float
    scratch_learned: bool
    transfer_learned: bool


@dataclass(frozen=True)
class Comparison:
    """What the pairs say together.

    Args:
        n_pairs: how many.
        speedup: geometric mean of scratch over transfer epochs.
        low: 95 % interval of it, Student's of log ratios; None with one pair or if all ratios are the same.
        high: its upper end.
        p_value: chance of a mean this large if transfer made no difference: exact test of all sign flips.
    """

    n_pairs: int
    speedup: float
    low: float | None
    high: float | None
    p_value: float


def run(config: TransferConfig) -> None:
    """Train what is missing, compare, write and print.

    Raises:
        UserError: the source learns from sequences that the target is tested on.
    """
    check_apart(config.target.data, config.source.data, "The source")
    pairs, curves = [], []
    for seed in config.seeds:
        for arm in ("source", *TARGETS):
            train_run(config.run_config(arm, seed))
        found = {arm: read_curve(config.run_config(arm, seed)) for arm in TARGETS}
        pairs.append(make_pair(seed, found["scratch"], found["transfer"], config.threshold))
        curves += [
            {"seed": seed, "arm": arm, "epoch": epoch, "accuracy": accuracy}
            for arm, points in found.items()
            for epoch, accuracy in points
        ]
    comparison = compare(pairs)
    write_results(config, pairs, comparison, curves)
    Console(soft_wrap=True).print(pairs_table(pairs).to_rich())
    print(sentence(config, comparison, pairs))
    if config.expected_speedup is not None:
        print(verdict(comparison, pairs, config.expected_speedup))
    print(f"Wrote {config.folder}")


def read_curve(config: CompositionConfig) -> list[tuple[float, float]]:
    """(epoch, test accuracy) of the evaluations of a run."""
    scale = config.resolved_training.batch_size / config.data.n_examples
    rows = RowFile(config.folder / EVALS).read()
    return [(row["step"] * scale, row["test_accuracy"]) for row in rows]


def make_pair(
    seed: int, scratch: list[tuple[float, float]], transfer: list[tuple[float, float]], threshold: float
) -> Pair:
    """When each curve first reaches the threshold, or its end."""

    def reached(curve: list[tuple[float, float]]) -> tuple[float, bool]:
        above = [epoch for epoch, accuracy in curve if accuracy >= threshold]
        return (above[0], True) if above else (curve[-1][0], False)

    (scratch_epochs, scratch_learned), (transfer_epochs, transfer_learned) = (
        reached(scratch),
        reached(transfer),
    )
    return Pair(seed, scratch_epochs, transfer_epochs, scratch_learned, transfer_learned)


def compare(pairs: Sequence[Pair]) -> Comparison:
    """Mean log ratio of epochs over pairs, its interval and its exact sign-flip test."""
    ratios = [pair.scratch_epochs / pair.transfer_epochs for pair in pairs]
    speedup, low, high, n_pairs = ratio_interval(ratios)
    has_interval = not math.isnan(low)
    return Comparison(
        n_pairs=n_pairs,
        speedup=speedup,
        low=low if has_interval else None,
        high=high if has_interval else None,
        p_value=sign_flip_test([math.log(ratio) for ratio in ratios]),
    )


def verdict(comparison: Comparison, pairs: Sequence[Pair], expected: float) -> str:
    """What was expected beside what was found; a transfer that has not learned misses it."""
    n_late = sum(not pair.transfer_learned for pair in pairs)
    holds = comparison.speedup >= expected and not n_late
    word = "as expected" if holds else "MISSED"
    found = (
        f"but {n_late} of {len(pairs)} transfers have not learned"
        if n_late
        else f"got {comparison.speedup:.2f}"
    )
    return f"{word}: expected at least {expected:g} times fewer epochs, {found}"


def write_results(
    config: TransferConfig, pairs: Sequence[Pair], comparison: Comparison, curves: Sequence[dict[str, Any]]
) -> None:
    """Tables, and the learning curves with their bands over seeds."""
    write_csv(config.folder / "transfer.csv", [asdict(pair) for pair in pairs])
    result = {
        "threshold": config.threshold,
        "expected_speedup": config.expected_speedup,
        **asdict(comparison),
        "pairs": [asdict(pair) for pair in pairs],
    }
    write_atomically(config.folder / "transfer.json", json.dumps(result, indent=2) + "\n")
    figure = plot_curves(
        band_over_seeds(curves),
        "epoch",
        "accuracy",
        series="arm",
        low="low",
        high="high",
        x_label="epochs on the target task",
        y_label="test accuracy",
        y_range=(-0.03, 1.03),
    )
    caption = (
        "How the target is learned: means over seeds; bands are their 95 % intervals. A run that was stopped "
        "because it had learned keeps its last accuracy."
    )
    sections = [
        Section(
            "Learning curves",
            (Picture("learning_curves", figure, caption, sentence(config, comparison, pairs)),),
        ),
        Section("Pairs", (pairs_table(pairs),)),
    ]
    write_page(config.folder / "index.html", config.name, sentence(config, comparison, pairs), sections)
    save_parts(config.folder / "figures", sections)


def sentence(config: TransferConfig, comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """What the pairs say together: no ratio where a transfer has not learned, as nothing bounds it below."""
    n_pairs = comparison.n_pairs
    n_scratch = sum(pair.scratch_learned for pair in pairs)
    n_transfer = sum(pair.transfer_learned for pair in pairs)
    if n_transfer < n_pairs:
        return (
            f"The target reaches {config.threshold:.2f} in {n_transfer} of {n_pairs} runs from the source "
            f"and in {n_scratch} of {n_pairs} from scratch: too few to compare their epochs."
        )
    least = "at least " if n_scratch < n_pairs else ""
    interval = (
        "" if comparison.low is None else f"95 % interval {comparison.low:.2f} to {comparison.high:.2f}, "
    )
    return (
        f"From the source, the target reaches {config.threshold:.2f} in {least}{comparison.speedup:.2f} "
        f"times fewer epochs ({interval}{count(n_pairs, 'pair')}; "
        f"p = {comparison.p_value:.4f}, one-sided, all sign flips)."
    )


def pairs_table(pairs: Sequence[Pair]) -> Table:
    """One row a seed; a bound where the threshold was not reached."""
    rows = [
        (
            str(pair.seed),
            f"{'' if pair.scratch_learned else '> '}{pair.scratch_epochs:.1f}",
            f"{'' if pair.transfer_learned else '> '}{pair.transfer_epochs:.1f}",
            show_ratio(pair),
        )
        for pair in pairs
    ]
    caption = "Epochs on the target task until the threshold was first reached; >: not within the run."
    return Table(caption, ("seed", "from scratch", "from the source", "ratio"), tuple(rows))


def show_ratio(pair: Pair) -> str:
    """Scratch over transfer epochs; a bound where one run has not learned, a dash where both have not."""
    if not (pair.scratch_learned or pair.transfer_learned):
        return ABSENT
    bound = "> " if not pair.scratch_learned else "< " if not pair.transfer_learned else ""
    return f"{bound}{pair.scratch_epochs / pair.transfer_epochs:.2f}"


def band_over_seeds(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean accuracy and its 95 % interval over seeds, for each arm and epoch.

    A run that was stopped because it had learned keeps its last accuracy.
    """
    by_run: dict[tuple[str, int], dict[float, float]] = {}
    for row in curves:
        by_run.setdefault((row["arm"], row["seed"]), {})[row["epoch"]] = row["accuracy"]
    groups: dict[tuple[str, float], list[float]] = {}
    for epoch in sorted({row["epoch"] for row in curves}):
        for (arm, _), points in by_run.items():
            accuracy = points.get(epoch, points[max(points)] if epoch > max(points) else None)
            if accuracy is not None:
                groups.setdefault((arm, epoch), []).append(accuracy)
    rows = []
    for (arm, epoch), values in groups.items():
        mean, low, high, _ = mean_interval(values, is_share=True)
        rows.append({"arm": arm, "epoch": epoch, "accuracy": mean, "low": low, "high": high})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(TransferConfig, run, argv, "Compare learning a task after another one and from scratch.")


if __name__ == "__main__":
    sys.exit(main())
