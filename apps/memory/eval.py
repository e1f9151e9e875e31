"""Examine a trained model: ``python -m apps.memory.eval CONFIG [key=value ...]``.

The same config on the same checkpoint always writes the same folder of the run,
``evaluations/step_<8 digits>_<hash of the config>``, so no examination overwrites that of another config:

- ``config.yaml``: the examination's config, resolved.
- ``result.json``: all measures by name, and one row a set and attribute with its interval.
- ``dialogs.jsonl``: every dialog as it went.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from apps.memory.held_out import check_unlearned
from apps.memory.pretrained_model.forgetting import build_forgetting
from apps.memory.recall import Answer, TrainedMemory, build_recall, score
from apps.memory.settings import EvalConfig, MemoryConfig
from nanollama.config import config_hash
from nanollama.entrypoint import run_main
from nanollama.measures import ABSENT, show_interval, show_measure, show_number
from nanollama.report.runs import SampleDialog, write_examination, write_samples
from nanollama.report.tables import Table
from nanollama.training.trained import load_run

ALL = "all"
WIDTH = 100  # of the table where there is no terminal: no cell is broken


def run(config: EvalConfig) -> None:
    """Ask, show, and write down what came out."""
    trained = load_run(MemoryConfig, config.run, [f"training.device={config.device}"], device_key="device")
    examined = examined_config(config, trained.config)
    check_unlearned(examined)  # training checks the sets of the run alone, not those that are asked for now
    forgetting = build_forgetting(examined)
    with build_recall(examined) as recall:
        folder = trained.make_evaluation(config)  # before the work, which takes minutes
        n_prompts = sum(map(len, recall.questions.values()))
        with Console(stderr=True).status(f"asking {n_prompts:,} questions"):
            answers = recall.ask(trained.model)
        measures = recall.summarise(answers, trained.model.n_params())
    forgotten = {} if forgetting is None else forgetting.evaluate(trained.model, trained.step)
    rows = [row for name, of_set in answers.items() for row in rows_of(name, of_set)]
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(recall_table(trained, measures, rows).to_rich())
    for name, value in forgotten.items():
        print(f"{name:<28} {show_number(value)}")
    write_results(folder, config, trained, measures | forgotten, rows, answers)
    print(f"wrote {folder}")


def examined_config(config: EvalConfig, of_run: MemoryConfig) -> MemoryConfig:
    """The run's config, examined as the examination's config says.

    Raises:
        UserError: the examination is about something that the run did not learn.
    """
    changed: dict[str, Any] = {"recall": config.recall}
    if config.data_root is not None:
        changed["data_root"] = config.data_root
    if config.database is not None:
        changed["database"] = config.database
    if config.forgetting is not None:
        changed["forgetting"] = config.forgetting
    return of_run.changed(**changed)


def rows_of(name: str, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """One row for all answers of a set, then one for each attribute."""
    attributes = dict.fromkeys(answer.question.attribute for answer in answers)
    scores = {ALL: score(answers)} | {attribute: score(answers, attribute) for attribute in attributes}
    return [
        {
            "set": name,
            "attribute": attribute,
            "n_prompts": found.n_prompts,
            "n_right": found.n_right,
            "recall": found.recall,
            "recall_low": found.low,
            "recall_high": found.high,
        }
        for attribute, found in scores.items()
    ]


def recall_table(
    trained: TrainedMemory, measures: Mapping[str, float], rows: Sequence[Mapping[str, Any]]
) -> Table:
    """One column a set; first the shares of right answers, then what else is known of them."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    cells = {
        (row["attribute"], row["set"]): show_interval(row["recall"], row["recall_low"], row["recall_high"])
        for row in rows
    }
    lines = [
        (
            "recall" if attribute == ALL else f"  {attribute}",
            *(cells.get((attribute, name), ABSENT) for name in names),
        )
        for attribute in dict.fromkeys(row["attribute"] for row in rows)
    ]
    others = {
        "asked a tool": "tool_use_{}",
        "valid requests": "valid_calls_{}",
        "recall, tool asked": "recall_{}_asked",
        "recall, by heart": "recall_{}_by_heart",
        "loss, nats a token": "loss_{}_nats",
        "questions": "n_prompts_{}",
    }
    for label, pattern in others.items():
        values = [measures.get(pattern.format(name)) for name in names]
        if any(value is not None for value in values):
            lines.append((label, *map(show_number, values)))
    for label, key in {"bits a parameter": "bits_per_parameter", "bits a fact": "bits_per_fact"}.items():
        if key in measures:
            lines.append(
                (label, *(show_measure(measures, key) if name == "trained" else ABSENT for name in names))
            )
    intervals = "[95 % intervals, people as the unit]"
    caption = (
        f"{trained.folder}, step {trained.step}: shares of right answers {intervals}{trained.unfinished}."
    )
    return Table(caption, ("", *(name.replace("_", " ") for name in names)), tuple(lines))


def write_results(
    folder: Path,
    config: EvalConfig,
    trained: TrainedMemory,
    measures: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[Answer]],
) -> None:
    """Write what came out into the folder of an examination."""
    samples = [
        SampleDialog(
            f"{name}, {answer.question.attribute}", answer.question.answer, answer.is_right, answer.messages
        )
        for name, of_set in answers.items()
        for answer in of_set
    ]
    write_samples(folder / "dialogs.jsonl", samples)
    write_examination(
        folder,
        measures,
        step=trained.step,
        weights_sha256=trained.weights_sha256,
        config_hash=config_hash(config),
        rows=rows,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(EvalConfig, run, argv, "Examine a trained model: whom does it answer questions about?")


if __name__ == "__main__":
    sys.exit(main())
