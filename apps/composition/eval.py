"""Examine a trained model: ``python -m apps.composition.eval CONFIG [key=value ...]``.

Writes into the folder ``evaluations/step_<8 digits>_<hash of the config>`` of the run: its config,
``result.json`` (what it prints), ``measures.csv`` (a number a row), ``causal.csv`` and ``probes.csv``, about
tasks that put out every state.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apps.composition.causal import causal_effects
from apps.composition.data import build_dataset
from apps.composition.measures import build_groups, find_best_circuit, iterations, measure, summarise
from apps.composition.probes import has_mlps, probe_circuit
from apps.composition.settings import CompositionConfig, EvalConfig
from apps.composition.tables import print_table
from nanollama.config import config_hash
from nanollama.entrypoint import run_main
from nanollama.measures import say_all
from nanollama.monitor.files import write_csv
from nanollama.report.runs import write_examination


def run(config: EvalConfig) -> None:
    """Measure, test and probe the newest checkpoint of a run."""
    trained = config.load(CompositionConfig)
    model, data = trained.model, trained.config.data
    groups = build_groups(data, build_dataset(data), config.measures)
    rows = list(measure(model, data, groups, config.measures.heads))
    summary = summarise(rows, data)
    print(trained.title)
    for line in say_all(summary):
        print(f"  {line}")
    folder = config.make_folder(trained)
    tasks = [task.implementation for task in data.tasks]
    write_examination(
        folder,
        summary,
        step=trained.step,
        weights_sha256=trained.weights_sha256,
        config_hash=config_hash(config),
    )
    _write(folder / "measures.csv", [{**asdict(row), "task": tasks[row.task]} for row in rows])

    circuit = find_best_circuit(summary)
    tested = iterations(groups, config.measures.splits) if data.chain_of_thought else []
    if tested:
        effects = [asdict(effect) for effect in causal_effects(model, data, tested, circuit)]
        print_table(effects)
        _write(folder / "causal.csv", effects)
    else:
        print("No causal tests: nothing here puts out every state of an iteration.")
    if circuit is None:
        print("No probes: no circuit was looked for, or there are fewer than two layers that attend.")
    elif not has_mlps(model, circuit):
        print("No probes: the layers of the circuit have no MLPs that can be looked at.")
    else:
        probes = [asdict(result) for result in probe_circuit(model, tested, circuit)]
        print_table(probes)
        _write(folder / "probes.csv", probes)
    print(f"wrote {folder}")


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_csv(path, list(rows[0]), ([*row.values()] for row in rows))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(EvalConfig, run, argv, "Measure a trained model, test its circuit, probe its MLPs.")


if __name__ == "__main__":
    sys.exit(main())
