"""Documents from files or from a hub, in their order, and which of them are held out."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nanollama.data.text.config import TextConfig
from nanollama.errors import MissingExtraError, UserError
from nanollama.wording import show, suggest

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def read_documents(config: TextConfig) -> Iterator[str]:
    """All documents that hold more than blanks.

    Raises:
        UserError: a file is missing, cannot be read as what its ending says, or lacks the column; the data
            set cannot be had.
        MissingExtraError: Parquet without pyarrow, a data set without the package datasets.
    """
    found = _from_hub(config) if config.dataset is not None else _from_files(config)
    return (text for text in found if text.strip())


def split_of(text: str, held_out: float) -> Split:
    """Where a document belongs: a function of its text alone, so that none is both learned and held out.

    Copies belong together that differ in case, accents, characters without a shape of their own, such as a
    soft hyphen, or in how many blanks there are between words: tokenizers may drop all of that.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFD", text).translate(_dropped())
    plain = " ".join(text.casefold().split())
    place = int.from_bytes(hashlib.sha256(plain.encode("utf-8", "replace")).digest()[:8], "big") / 2**64
    return "test" if place < held_out else "valid" if place < 2 * held_out else "train"


@cache
def _dropped() -> dict[int, None]:
    """Combining marks and format characters, none of which are ASCII; a table, as texts are long."""
    codes = range(sys.maxunicode + 1)
    return dict.fromkeys(code for code in codes if unicodedata.category(chr(code)) in ("Mn", "Cf"))


def content_hash(config: TextConfig) -> str:
    """SHA-256 of what the files hold and of how they are read, or of the name of the data set.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in config.files:
        digest.update(f"{path.suffix} {hashlib.sha256(_bytes(path)).hexdigest()}\n".encode())
    if config.dataset is not None:
        digest.update(f"{config.dataset}/{config.subset}".encode())
    return digest.hexdigest()


def _from_files(config: TextConfig) -> Iterator[str]:
    for path in config.files:
        if path.suffix == ".parquet":
            yield from _parquet(path, config.column)
            continue
        try:
            lines = _bytes(path).decode("utf-8-sig").split("\n")  # not at U+2028, which JSON may hold
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text (byte {error.start}): convert it first.") from error
        for number, line in enumerate(lines, start=1):
            text = line.removesuffix("\r")
            yield _row(path, number, text, config.column) if path.suffix == ".jsonl" else text


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"The text {path} cannot be read: {error.strerror or error}.") from error


def _row(path: Path, number: int, line: str, column: str) -> str:
    if not line.strip():
        return ""
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise UserError(f"{path}:{number}: this line is nested too deeply to be read.") from error
    except ValueError as error:
        raise UserError(f"{path}:{number}: this line is not JSON ({error}).") from error
    text = row.get(column) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise UserError(
            f"{path}:{number}: expected an object with a text under {show(column)}{_instead(row, column)}"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path}:{number}: the text has half a character, {text[error.start]!a}, at {error.start}: "
            "expected Unicode, where such halves come in pairs."
        ) from error
    return text


def _instead(row: Any, column: str) -> str:
    """What a row of JSON has in place of a text."""
    if not isinstance(row, dict):
        return "."
    if column in row:
        value = row[column]
        return (
            f", which holds {f'a {type(value).__name__}' if isinstance(value, list | dict) else show(value)}."
        )
    return suggest(column, row) or "."


def _parquet(path: Path, column: str) -> Iterator[str]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    _bytes(path)
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:  # pyarrow's own
        raise UserError(f"{path} is not a Parquet file: {error}.") from error
    names = file.schema_arrow.names
    if column not in names:
        raise UserError(
            f"{path} has no column {show(column)}{suggest(column, names) or '; it has ' + ', '.join(names)}."
        )
    for batch in file.iter_batches(columns=[column]):
        for text in batch.column(0).to_pylist():
            if text is not None and not isinstance(text, str):
                raise UserError(f"The column {show(column)} of {path} holds {show(text)}, expected texts.")
            yield text or ""


def _from_hub(config: TextConfig) -> Iterator[str]:
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets") from error
    try:
        found = datasets.load_dataset(config.dataset, config.subset)
    except Exception as error:  # of the network, the hub or the data set
        raise UserError(
            f"The data set {config.dataset} cannot be had ({show(str(error))}): check its name and the "
            "network, or name local files instead."
        ) from error
    for part in found.values():
        if config.column not in part.column_names:
            raise UserError(f"The data set {config.dataset} has no column {show(config.column)}.")
        for number, text in enumerate(part[config.column]):
            if text is not None and not isinstance(text, str):
                raise UserError(
                    f"The data set {config.dataset} holds no texts in column {show(config.column)}: row "
                    f"{number} is {show(text)}."
                )
            yield text or ""
