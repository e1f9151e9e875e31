"""Examine the in-tool model built by hand: ``python -m apps.memory.circuit CONFIG [key=value ...]``.

The same weights answer questions about people of invented names and values, few and many. They are
written into a run folder, so ``nanollama chat`` and ``python -m apps.memory.eval`` take the circuit as
any other model.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from apps.memory.circuit.page import write_circuit_page
from apps.memory.circuit.weights import build_circuit, circuit_shape
from apps.memory.circuit.words import Words
from apps.memory.dataset.dialogs import Dialog, make_dialog
from apps.memory.dataset.people import ATTRIBUTES
from apps.memory.recall import Answer, RecallEvaluator, score
from apps.memory.settings import CircuitConfig, MemoryConfig, RecallConfig
from apps.memory.sources import build_tokenizer
from apps.memory.strangers import database_of, make_strangers
from nanollama.entrypoint import run_main
from nanollama.errors import EXIT_FAILED, EXIT_OK
from nanollama.measures import show_interval, show_number
from nanollama.model import ModelConfig
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import NoOptimizer
from nanollama.monitor.files import write_atomically
from nanollama.monitor.run_folder import DIALOGS, open_run
from nanollama.report.runs import SampleDialog, write_samples
from nanollama.report.tables import Table
from nanollama.seeds import named_seed

RESULT = "circuit.json"
N_SHOWN = 4  # dialogs of each number of people that are kept to look at


def run(config: CircuitConfig) -> int:
    """Build the model, ask it, write what came out; 1 if a question was answered wrongly."""
    tokenizer, words = build_tokenizer(), Words()
    model = build_circuit(tokenizer, words)
    of_run = run_config(config, circuit_shape(tokenizer, words))
    with open_run(of_run, config.folder, device="cpu", overwrite=config.overwrite) as opened:
        opened.checkpoints.save(0, model, NoOptimizer(), {})
        rows, samples = [], []
        for n_people in config.n_people:
            began = time.perf_counter()
            answers = list(ask_about_strangers(model, n_people, config.n_questions, config.seed))
            seconds = round(time.perf_counter() - began, 1)
            row = {"n_people": n_people, **score(answers)._asdict(), "n_params": model.n_params()}
            rows.append({**row, "seconds": seconds})
            wrong = [answer for answer in answers if not answer.is_right]
            samples += [_sample(n_people, answer) for answer in [*answers[:N_SHOWN], *wrong[:N_SHOWN]]]
        write_samples(config.folder / DIALOGS, samples)
        write_atomically(config.folder / RESULT, json.dumps({"rows": rows}, indent=2) + "\n")
        table = circuit_table(rows)
        Console(width=None if sys.stdout.isatty() else 100).print(table.to_rich())
        n_wrong = sum(row["n_prompts"] - row["n_right"] for row in rows)
        print(f"All right, as expected: {'yes' if n_wrong == 0 else f'no, {n_wrong:,} questions were not'}.")
        print(f"wrote {write_circuit_page(config.folder, model, table, samples)}")
    return EXIT_OK if n_wrong == 0 else EXIT_FAILED


def run_config(config: CircuitConfig, shape: ModelConfig) -> MemoryConfig:
    """The config of a run that has this model and was never trained."""
    return MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": config.name,
            "run_dir": config.folder,
            "data_root": config.data_root,
            "data": {"n_people": 1, "sources": [{"kind": "qatool"}]},
            "model": shape,
            "training": {"n_steps": 1},
        }
    )


def ask_about_strangers(model: LanguageModel, n_people: int, n_questions: int, seed: int) -> Iterator[Answer]:
    """Answers to so many different questions; as many databases of strangers as it takes to have them."""
    n_left = n_questions
    for number in range(-(-n_questions // (n_people * len(ATTRIBUTES)))):
        rng = np.random.Generator(np.random.Philox(named_seed(seed, f"strangers/{n_people}/{number}")))
        strangers = make_strangers(n_people, rng)
        pairs = rng.choice(n_people * len(ATTRIBUTES), min(n_left, n_people * len(ATTRIBUTES)), replace=False)
        dialogs: list[Dialog] = [
            make_dialog(strangers[pair // len(ATTRIBUTES)], ATTRIBUTES[pair % len(ATTRIBUTES)], "qatool")
            for pair in pairs.tolist()
        ]
        n_left -= len(dialogs)
        # Numbered on from database to database: nobody is in two.
        dialogs = [dialog._replace(person=dialog.person + number * n_people) for dialog in dialogs]
        with database_of(strangers) as tool:
            evaluator = RecallEvaluator({"strangers": dialogs}, build_tokenizer(), tool, RecallConfig())
            yield from evaluator.ask(model)["strangers"]


def circuit_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One row for each number of people in the database."""
    cells = [
        (
            f"{row['n_people']:,}",
            f"{row['n_right']:,} of {row['n_prompts']:,}",
            show_interval(row["recall"], row["low"], row["high"]),
            show_number(row["n_params"]),
            f"{row['seconds']}",
        )
        for row in rows
    ]
    columns = ("people", "right", "recall", "parameters", "seconds")
    return Table(
        "Questions about strangers, in brackets 95 % intervals, people as the unit.", columns, tuple(cells)
    )


def _sample(n_people: int, answer: Answer) -> SampleDialog:
    title = f"{n_people:,} people, {answer.question.attribute.replace('_', ' ')}"
    return SampleDialog(title, answer.question.answer, answer.is_right, answer.messages)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(CircuitConfig, run, argv, "Examine the in-tool model built by hand.")
