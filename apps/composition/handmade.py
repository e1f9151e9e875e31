"""Measure the iteration head built by hand: ``python -m apps.composition.handmade CONFIG``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from apps.composition.circuit import build_handmade
from apps.composition.data import build_dataset
from apps.composition.measures import Row, build_groups, measure
from apps.composition.settings import HandmadeConfig, MeasuresConfig
from apps.composition.tables import print_table
from apps.composition.tasks import Iteration
from nanollama.entrypoint import run_main


def run(config: HandmadeConfig) -> None:
    """Build a model for each task, and print the worst of its scores over all lengths."""
    table = []
    for index, task in enumerate(config.tasks):
        began = time.perf_counter()
        assert isinstance(task, Iteration)
        data = config.data(index)
        model = build_handmade(task, config.tokens, config.max_length, config.vocab_size)
        groups = build_groups(
            data, build_dataset(data), MeasuresConfig(n_sequences=config.n_test, splits=("test",))
        )
        rows = list(measure(model, data, groups))

        def worst(name: str, layer: int | None = None, rows: list[Row] = rows) -> float:
            return min(row.value for row in rows if (row.measure, row.layer) == (name, layer))

        table.append(
            {
                "task": task.implementation,
                "lengths": f"{groups[0].length} to {groups[-1].length}",
                "sequences": sum(len(group.tokens) for group in groups),
                "accuracy": worst("accuracy"),
                "eoi_peakiness": worst("eoi_peakiness", 0),
                "iteration_peakiness": worst("iteration_peakiness", 1),
                "n_params": model.n_params(),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    print("Scores of the worst length:")
    print_table(table)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(HandmadeConfig, run, argv, "Measure the iteration head built by hand.")


if __name__ == "__main__":
    sys.exit(main())
