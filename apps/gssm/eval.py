"""Examine a trained model: ``python -m apps.gssm.eval CONFIG [key=value ...]``.

Writes into the folder ``evaluations/step_<8 digits>_<hash of the config>`` of the run: its config,
``result.json`` with the means and their intervals, ``positions.csv``, where an exact floor is known
``latents.csv``, and for graphs with slow nodes ``switches.csv``; prints what they say in short.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from apps.gssm.examination import Row, best_recovery, latent_rows, position_rows, switch_rows
from apps.gssm.examiner import TestSet, build_test_set, measure, summarise
from apps.gssm.printing import show_table
from apps.gssm.recall_config import RecallDataConfig
from apps.gssm.settings import EvalConfig, GssmConfig
from apps.gssm.source import Source, build_source
from nanollama.config import config_hash
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.measures import say_all
from nanollama.monitor.files import write_csv
from nanollama.report.runs import write_examination
from nanollama.training.trained import Trained


@dataclass(frozen=True)
class Examination:
    """What was found of a trained model; tables are empty where nothing exact is known.

    Args:
        source: it was trained on.
        test: sequences it was examined on.
        summary: means with their intervals.
        tables: rows by name.
    """

    source: Source
    test: TestSet
    summary: dict[str, float]
    tables: dict[str, list[Row]]


def examine(trained: Trained[GssmConfig], n_sequences: int) -> Examination:
    """Examine a model on the first sequences of its source's test.

    Raises:
        UserError: the run learned associative recall, which has no source.
    """
    data = trained.config.data
    if isinstance(data, RecallDataConfig):
        raise UserError(
            f"The run {trained.folder} learned associative recall, which is examined while it is learned: "
            "see its evals.jsonl. Expected a run on sequences of a graph."
        )
    source = build_source(data)
    test = build_test_set(source, n_sequences)
    losses = measure(trained.model, test)
    tables = {"positions": position_rows(losses, test)}
    if source.graph.has_floor:
        tables["latents"] = list(latent_rows(trained.model, source, test))
        tables["switches"] = list(switch_rows(losses, source, test))
    return Examination(source, test, summarise(losses, test), tables)


def run(config: EvalConfig) -> None:
    """Examine the newest checkpoint of a run."""
    trained = config.load(GssmConfig)
    found = examine(trained, config.n_sequences)
    print(trained.title)
    for line in say_all(found.summary):
        print(f"  {line}")
    for rows in (best_recovery(found.tables.get("latents", [])), found.tables.get("switches", [])):
        if rows:
            print()
            show_table(rows)
    folder = config.make_folder(trained)
    for name, rows in found.tables.items():
        if rows:
            write_csv(folder / f"{name}.csv", list(rows[0]), ([*row.values()] for row in rows))
    write_examination(
        folder,
        found.summary,
        step=trained.step,
        weights_sha256=trained.weights_sha256,
        config_hash=config_hash(config),
    )
    print(f"wrote {folder}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(EvalConfig, run, argv, "Measure a trained model against what can be known exactly.")


if __name__ == "__main__":
    sys.exit(main())
