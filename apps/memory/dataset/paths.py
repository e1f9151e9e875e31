"""Where the data of the study lives under a data root."""

from __future__ import annotations

from pathlib import Path

from apps.memory.dataset.dialogs import DialogKind, Language
from apps.memory.dataset.people import Population

DEFAULT_ROOT = Path("data")
TABLE = "people"
"""Of the database."""


def people_path(root: Path, population: Population = "train") -> Path:
    """One person a line: number, name and facts."""
    return _folder(root) / f"{_prefix(population)}people.jsonl"


def biographies_path(root: Path, population: Population = "train") -> Path:
    """One text a line, one line a person."""
    return _folder(root) / f"{_prefix(population)}biographies.jsonl"


def dialogs_path(
    root: Path, kind: DialogKind, language: Language = "find", population: Population = "train"
) -> Path:
    """One dialog a line, four lines a person. The language sets requests apart, `qa` has none."""
    suffix = "_sql" if (kind, language) == ("qatool", "sql") else ""
    return _folder(root) / f"{_prefix(population)}{kind}{suffix}.jsonl"


def database_path(root: Path) -> Path:
    """The SQLite database of both populations."""
    return _folder(root) / "people.sqlite"


def dependent_folder(root: Path, alpha: float, seed: int) -> Path:
    """People whose facts depend on their last names, their dialogs and their database."""
    return _folder(root) / "dependent" / (f"alpha_{alpha:g}" + (f"_seed_{seed}" if seed else ""))


def dependent_database_path(root: Path, alpha: float, seed: int) -> Path:
    """The SQLite database of these people."""
    return dependent_folder(root, alpha, seed) / "people.sqlite"


def _folder(root: Path) -> Path:
    return Path(root) / "memory"


def _prefix(population: Population) -> str:
    return "" if population == "train" else f"{population}_"
