"""Write the people, their biographies and their dialogs as JSON lines under a data root.

``python -m apps.memory.dataset.generate people|biographies|qa [--num N] [--tooluse] [--root DIR] ...``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from apps.memory.dataset.command import add_num, add_root
from apps.memory.dataset.dialogs import LANGUAGES, DialogKind, Language
from apps.memory.dataset.files import Outcome, write_lines
from apps.memory.dataset.lines import biographies_pattern, dialogs_pattern, people_pattern, render
from apps.memory.dataset.paths import biographies_path, dialogs_path, people_path
from apps.memory.dataset.people import POPULATIONS, Population, people
from nanollama.entrypoint import Parser, guard
from nanollama.errors import UserError

_PROGRAM = "python -m apps.memory.dataset.generate"
_N_PEOPLE_A_CHUNK = 4096
_MAX_LINE_BYTES = 1 << 16


def write_people(
    root: Path, n_people: int, population: Population = "train", overwrite: bool = False
) -> Outcome:
    """Write `people_path`: the first `n_people`, unless `write_lines` keeps what is there."""
    return _write(people_path(root, population), people_pattern(), n_people, population, overwrite)


def write_biographies(
    root: Path, n_people: int, population: Population = "train", overwrite: bool = False
) -> Outcome:
    """Write `biographies_path`, likewise."""
    return _write(biographies_path(root, population), biographies_pattern(), n_people, population, overwrite)


def write_dialogs(
    root: Path,
    kind: DialogKind,
    n_people: int,
    language: Language = "find",
    population: Population = "train",
    overwrite: bool = False,
) -> Outcome:
    """Write `dialogs_path`, likewise: by person, then by attribute."""
    path = dialogs_path(root, kind, language, population)
    return _write(path, dialogs_pattern(kind, language), n_people, population, overwrite)


def ensure_dialogs(
    root: Path, kind: DialogKind, language: Language, population: Population, n_people: int
) -> Path:
    """The file with the dialogs of at least `n_people`, made or made longer if need be.

    Raises:
        UserError: the file is there and holds something else, or does not end with a dialog.
    """
    path = dialogs_path(root, kind, language, population)
    if _is_short(path, n_people):
        _say_written(write_dialogs(root, kind, n_people, language, population))
    return path


def ensure_biographies(root: Path, n_people: int) -> Path:
    """The file with the biographies of at least `n_people`, likewise."""
    path = biographies_path(root)
    if _is_short(path, n_people):
        _say_written(write_biographies(root, n_people))
    return path


def _is_short(path: Path, n_people: int) -> bool:
    return not path.exists() or count_people(path) < n_people


def _say_written(outcome: Outcome) -> None:
    """Nothing is said of a file that somebody else has made longer meanwhile."""
    if outcome.state == "written":
        print(outcome, flush=True)


def count_people(path: Path) -> int:
    """How many people a file tells of, known from its last line.

    Raises:
        UserError: the file cannot be read, or its last line is not one of ours.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _MAX_LINE_BYTES))
            lines = file.read().splitlines()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    if not lines:
        return 0
    try:
        return int(json.loads(lines[-1])["person"]) + 1
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path}: the last line is not JSON with a key 'person'; "
            "move the file away to have it written anew."
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return guard(lambda: _run(_parser().parse_args(argv)))


def _run(arguments: argparse.Namespace) -> None:
    root, n_people, population = arguments.root, arguments.num, arguments.population
    if arguments.kind == "people":
        outcome = write_people(root, n_people, population, arguments.overwrite)
    elif arguments.kind == "biographies":
        outcome = write_biographies(root, n_people, population, arguments.overwrite)
    else:
        if arguments.language and not arguments.tooluse:
            raise UserError("--language is the language of requests to the database; add --tooluse.")
        kind: DialogKind = "qatool" if arguments.tooluse else "qa"
        language: Language = arguments.language or "find"
        outcome = write_dialogs(root, kind, n_people, language, population, arguments.overwrite)
    print(outcome)


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description="Write people, biographies or dialogs as JSON lines.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="people|biographies|qa")
    descriptions = {
        "people": "names and facts, one person a line",
        "biographies": "one text a person, with all four facts",
        "qa": "a question and its answer, four dialogs a person",
    }
    for kind, description in descriptions.items():
        command = kinds.add_parser(kind, prog=f"{_PROGRAM} {kind}", description=description, help=description)
        add_num(command)
        add_root(command)
        command.add_argument(
            "--population",
            choices=POPULATIONS,
            default="train",
            help="new: people of names that no other person has, for tests (default: train)",
        )
        command.add_argument("--overwrite", action="store_true", help="replace a file that differs")
    dialogs = kinds.choices["qa"]
    dialogs.add_argument("--tooluse", action="store_true", help="answer through a request to the database")
    dialogs.add_argument("--language", choices=LANGUAGES, help="language of requests (default: find)")
    return parser


def _write(path: Path, pattern: str, n_people: int, population: Population, overwrite: bool) -> Outcome:
    chunks = (
        render(pattern, people(start, min(start + _N_PEOPLE_A_CHUNK, n_people), population))
        for start in range(0, n_people, _N_PEOPLE_A_CHUNK)
    )
    n_chunks = -(-n_people // _N_PEOPLE_A_CHUNK)
    return write_lines(path, _with_progress(chunks, n_chunks, path.name), overwrite)


def _with_progress(chunks: Iterator[bytes], n_chunks: int, name: str) -> Iterator[bytes]:
    """The chunks, with a progress bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield from chunks
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(chunks, total=n_chunks, description=name, console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    sys.exit(main())
