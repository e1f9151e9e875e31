"""Learn one task, then another: ``python -m apps.composition.transfer CONFIG [key=value ...]``.

The config is a grid with the arms ``source``, ``scratch`` and ``transfer``; this runs what is missing of it,
as ``local_grid`` does, and compares the number of epochs until the target task is learned from the source and
from scratch, seed by seed. Writes ``transfer.csv``, ``transfer.json``, ``transfer.html`` and the learning
curves into the folder of the grid. Two keys are its own: ``threshold``, the test accuracy that counts as
learned, and ``expected_speedup``, how many times fewer epochs the transfer has to take.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field
from rich.console import Console

from apps.composition.settings import CompositionConfig
from apps.composition.tables import write_csv
from nanollama.config import Config, build_config
from nanollama.config.source import Node, read_source
from nanollama.entrypoint import DRY_RUN_FLAG, HELP_FLAGS, guard
from nanollama.errors import EXIT_FAILED, EXIT_OK, UserError
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.local import run as local
from nanollama.launcher.plan import Plan, read_grid
from nanollama.launcher.states import inspect
from nanollama.monitor.files import write_atomically
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_curves
from nanollama.report.page import Picture, Section
from nanollama.report.tables import ABSENT, Table
from nanollama.statistics import mean_interval, ratio_interval, sign_flip_test
from nanollama.wording import count

PROGRAM = "python -m apps.composition.transfer"
TARGETS = ("scratch", "transfer")
MAX_PAIRS = 20
"""The test tries all 2^n signs of n pairs."""


class TransferKeys(Config):
    """What the comparison is told beside the grid."""

    threshold: float = Field(default=0.9, gt=0, le=1, description="Test accuracy that counts as learned.")
    expected_speedup: float | None = Field(
        default=None, gt=0, description="How many times fewer epochs the transfer has to take."
    )


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


def check_pairs(plan: Plan, threshold: float) -> None:
    """Refuse a grid whose runs cannot be compared in pairs.

    Raises:
        UserError: it is not of pairs, or its runs do not tell when the target is learned.
    """
    varied = {key for run in plan.runs for key in run.values}
    n_runs = [sum(run.values.get(ARM) == arm for run in plan.runs) for arm in TARGETS]
    if varied != {ARM, plan.seed_key} or n_runs[0] != n_runs[1] or not 2 <= n_runs[0] <= MAX_PAIRS:
        raise UserError(
            f"The grid '{plan.name}' is not of pairs: expected the arms {' and '.join(TARGETS)}, "
            f"2 to {MAX_PAIRS} seeds, and nothing else that varies."
        )
    for run in plan.runs:
        config = run.config
        if run.values[ARM] not in TARGETS:
            continue
        assert isinstance(config, CompositionConfig)
        stop_when = config.training.stop_when
        if config.training.eval_every is None:
            problem = "training.eval_every says how finely epochs are told: it must be set"
        elif config.data.n_train is None:
            problem = "data.n_train = null draws sequences without end: there are no epochs"
        elif "test" not in config.measures.splits:
            problem = "measures.splits must contain test: what is learned is told by test accuracy"
        elif stop_when is not None and stop_when.measures.get("test_accuracy", 0.0) < threshold:
            problem = (
                "training.stop_when must ask for a test_accuracy of at least "
                f"threshold = {threshold:g}: runs would stop before they reach it"
            )
        else:
            continue
        raise UserError(f"The run {run.name} cannot be compared: {problem}.")


def tell(plan: Plan, keys: TransferKeys) -> int:
    """Compare the finished runs of a grid, write and print.

    Returns:
        0, or 1 when the transfer took more epochs than expected.
    """
    found: dict[tuple[Any, str], list[tuple[float, float]]] = {}
    for run in plan.runs:
        if run.values[ARM] in TARGETS:
            assert isinstance(run.config, CompositionConfig)
            found[run.values[plan.seed_key or ""], run.values[ARM]] = read_curve(run.config)
    seeds = dict.fromkeys(seed for seed, _ in found)
    pairs = [make_pair(seed, *(found[seed, arm] for arm in TARGETS), keys.threshold) for seed in seeds]
    curves = [
        {"seed": seed, "arm": arm, "epoch": epoch, "accuracy": accuracy}
        for (seed, arm), points in found.items()
        for epoch, accuracy in points
    ]
    comparison = compare(pairs)
    write_results(plan, keys, pairs, comparison, curves)
    Console(soft_wrap=True).print(pairs_table(pairs).to_rich())
    print(sentence(keys.threshold, comparison, pairs))
    print(f"Wrote {plan.folder / 'transfer.html'}")
    if keys.expected_speedup is None:
        return EXIT_OK
    print(verdict(comparison, pairs, keys.expected_speedup))
    return EXIT_OK if holds(comparison, pairs, keys.expected_speedup) else EXIT_FAILED


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


def holds(comparison: Comparison, pairs: Sequence[Pair], expected: float) -> bool:
    """Has it come as expected? A transfer that has not learned misses it."""
    return comparison.speedup >= expected and all(pair.transfer_learned for pair in pairs)


def verdict(comparison: Comparison, pairs: Sequence[Pair], expected: float) -> str:
    """What was expected beside what was found."""
    n_late = sum(not pair.transfer_learned for pair in pairs)
    word = "as expected" if holds(comparison, pairs, expected) else "MISSED"
    found = (
        f"but {n_late} of {len(pairs)} transfers have not learned"
        if n_late
        else f"got {comparison.speedup:.2f}"
    )
    return f"{word}: expected at least {expected:g} times fewer epochs, {found}"


def write_results(
    plan: Plan,
    keys: TransferKeys,
    pairs: Sequence[Pair],
    comparison: Comparison,
    curves: Sequence[dict[str, Any]],
) -> None:
    """Tables, and the learning curves with their bands over seeds."""
    write_csv(plan.folder / "transfer.csv", [asdict(pair) for pair in pairs])
    result = {
        **keys.model_dump(),
        **asdict(comparison),
        "pairs": [asdict(pair) for pair in pairs],
    }
    write_atomically(plan.folder / "transfer.json", json.dumps(result, indent=2) + "\n")
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
    said = sentence(keys.threshold, comparison, pairs)
    sections = [
        Section("Learning curves", (Picture("learning_curves", figure, caption, said),)),
        Section("Pairs", (pairs_table(pairs),)),
    ]
    write_page(plan.folder / "transfer.html", plan.name, said, sections)
    save_parts(plan.folder / "figures", sections)


def sentence(threshold: float, comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """What the pairs say together: no ratio where a transfer has not learned, as nothing bounds it below."""
    n_pairs = comparison.n_pairs
    n_scratch = sum(pair.scratch_learned for pair in pairs)
    n_transfer = sum(pair.transfer_learned for pair in pairs)
    if n_transfer < n_pairs:
        return (
            f"The target reaches {threshold:.2f} in {n_transfer} of {n_pairs} runs from the source "
            f"and in {n_scratch} of {n_pairs} from scratch: too few to compare their epochs."
        )
    least = "at least " if n_scratch < n_pairs else ""
    interval = (
        "" if comparison.low is None else f"95 % interval {comparison.low:.2f} to {comparison.high:.2f}, "
    )
    return (
        f"From the source, the target reaches {threshold:.2f} in {least}{comparison.speedup:.2f} "
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
    """The command; its exit code, 1 also when something expected was missed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own = tuple(f"{key}=" for key in TransferKeys.model_fields)
    about_runs = [item for item in arguments if not item.startswith(own)]

    def work() -> int:
        if not arguments or HELP_FLAGS.intersection(arguments):
            return local.main(about_runs, PROGRAM)
        source = read_source([item for item in arguments if item != DRY_RUN_FLAG])
        told = {key: node for key, node in source.value.items() if key in TransferKeys.model_fields}
        keys = build_config(TransferKeys, Node(told, source.place))
        plan = read_grid([item for item in about_runs if item != DRY_RUN_FLAG])
        check_pairs(plan, keys.threshold)
        if DRY_RUN_FLAG in arguments:
            return local.main(about_runs, PROGRAM)
        code = local.run_missing(plan)
        is_whole = all(inspect(run).kind == "finished" for run in plan.runs)
        return max(code, tell(plan, keys)) if is_whole else code

    return guard(work)


if __name__ == "__main__":
    sys.exit(main())
