"""What a run folder holds, read for a report: config, environment, rows, result, sample dialogs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanollama.config.source import Place, parse_yaml
from nanollama.errors import UserError
from nanollama.measures import finite
from nanollama.monitor.files import own_file, read_text, write_atomically
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import CONFIG, DIALOGS, ENVIRONMENT, EVALS, EVALUATIONS, METRICS, RESULT
from nanollama.tokenizer import Message
from nanollama.wording import expect_run

Row = dict[str, Any]


@dataclass(frozen=True)
class SampleDialog:
    """A dialog that a model has written, to be looked at.

    Args:
        title: what it is an example of, such as ``unseen, birth_place``.
        expected: what a right answer ends with.
        is_right: whether it does.
        messages: who said what, tools included.
    """

    title: str
    expected: str
    is_right: bool
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Examination:
    """What an examination of one of a run's checkpoints has left, ``evaluations/<name>``.

    Args:
        name: of its folder, which begins with the step.
        measures: by name, from its ``result.json``; empty where it wrote none.
        tables: by the names of its CSV files, each a header and rows of as many cells.
    """

    name: str
    measures: Mapping[str, Any]
    tables: Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class RunRecord:
    """What one run has left.

    Args:
        name: distinguishes it from the other runs of a report.
        folder: where it was read.
        config_text: ``config.yaml`` as it stands there.
        config: the same, parsed.
        environment: ``environment.json``, empty when there is none.
        metrics: rows of training, by step.
        evals: rows of evaluation, by step.
        result: ``result.json``, empty while a run goes on.
        dialogs: from ``dialogs.jsonl``.
        examinations: of its checkpoints, in order.
    """

    name: str
    folder: Path
    config_text: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Sequence[Row]
    evals: Sequence[Row]
    result: Mapping[str, Any]
    dialogs: Sequence[SampleDialog]
    examinations: Sequence[Examination] = ()


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs in these folders. A run is named after its folder, or its path where two folders agree.

    Raises:
        UserError: a folder is not a run, a file in it is damaged, or a folder is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(resolved):
        if folder in resolved[:number]:
            raise UserError(f"{folders[number]}: this run is given twice; name each run once.")
    names = [folder.name for folder in resolved]
    unique = [
        name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)
    ]
    return [read_run(folder, name) for folder, name in zip(folders, unique, strict=True)]


def read_run(folder: Path, name: str | None = None) -> RunRecord:
    """One run.

    Raises:
        UserError: the folder is not that of a run, or a file in it is damaged, or lies elsewhere.
    """
    path = own_file(folder, CONFIG)
    if not path.is_file():
        problem = (
            f"holds no {CONFIG}" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        )
        raise UserError(f"{folder}: {problem}{expect_run(folder)}")
    text, root = read_text(path) or "", os.path.realpath(folder)
    return RunRecord(
        name=name or folder.resolve().name,
        folder=folder,
        config_text=text,
        config=parse_config(path, text),
        environment=_read_json(own_file(folder, ENVIRONMENT)),
        metrics=RowFile(own_file(folder, METRICS)).read(),
        evals=RowFile(own_file(folder, EVALS)).read(),
        result=_read_json(own_file(folder, RESULT)),
        dialogs=read_samples(own_file(folder, DIALOGS)),
        examinations=[_read_examination(path, root) for path in sorted((folder / EVALUATIONS).glob("*/"))],
    )


def write_samples(path: Path, dialogs: Sequence[SampleDialog]) -> None:
    """Write sample dialogs as JSON lines, for `read_samples`."""
    rows = (
        {
            "title": dialog.title,
            "expected": dialog.expected,
            "is_right": dialog.is_right,
            "messages": [{"role": role, "content": content} for role, content in dialog.messages],
        }
        for dialog in dialogs
    )
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_examination(
    folder: Path,
    measures: Mapping[str, float],
    *,
    step: int,
    weights_sha256: str,
    config_hash: str,
    **rest: Any,
) -> None:
    """Write what an examination has measured, for `read_run`; what is not a finite number becomes null.

    Args:
        folder: of the examination.
        measures: by name, the ends of intervals among them.
        step: of the checkpoint.
        weights_sha256: of the file with its weights.
        config_hash: of the examination's config.
        rest: what else a study keeps, such as rows of a table.
    """
    result = {
        "step": step,
        "weights_sha256": weights_sha256,
        "config_hash": config_hash,
        "metrics": finite(measures),
        **rest,
    }
    write_atomically(folder / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")


def read_samples(path: Path) -> list[SampleDialog]:
    """Sample dialogs of a run, none when the file is missing.

    Raises:
        UserError: a line is not a dialog, or it is not a file.
    """
    text = read_text(path)
    if text is None:
        return []
    dialogs = []
    # Only "\n" ends a line: a model may write other separators, which JSON leaves as they are.
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            messages = tuple(Message(str(turn["role"]), str(turn["content"])) for turn in row["messages"])
            dialog = SampleDialog(str(row["title"]), str(row["expected"]), bool(row["is_right"]), messages)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(
                f"{path}:{number} is not a dialog with title, expected, is_right and messages: "
                "remove the file to leave out dialogs."
            ) from None
        dialogs.append(dialog)
    return dialogs


def _read_examination(folder: Path, root: str) -> Examination:
    measures = _read_json(own_file(folder, RESULT, root)).get("metrics", {})
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        tables[path.stem] = _read_table(own_file(folder, path.name, root))
    return Examination(folder.name, measures if isinstance(measures, dict) else {}, tables)


def _read_table(path: Path) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(read_text(path) or "")))
    except csv.Error as error:
        raise UserError(f"{path} is not a table ({error}): remove the file to report without it.") from None
    if rows and not rows[0]:
        raise UserError(
            f"{path} begins with a blank line, expected names of columns: mend it, or remove the file to "
            "report without it."
        )
    return rows


def parse_config(path: Path, text: str) -> Mapping[str, Any]:
    """The sections of a ``config.yaml``.

    Raises:
        UserError: its text is not the YAML that configs are written in, or not keys and values.
    """
    config = parse_yaml(text, Place(file=str(path))).plain()
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected keys and values, as a run writes them.")
    return config


def _read_json(path: Path) -> Mapping[str, Any]:
    text = read_text(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: the file is damaged, remove it to report without it.")
    return value
