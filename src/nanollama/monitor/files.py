"""Files that are either complete or not there, also after a crash."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanollama.errors import REMEDIES, UserError


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file so that its name only ever stands for complete content, whoever else writes it.

    Args:
        path: of the file.
        text: its whole content.
        durable: return when it would survive a power cut, which takes milliseconds.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write comma-separated values under a header, into a folder that is made where it is not there.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.getvalue())
    except OSError as error:
        raise UserError(
            f"The table {path} cannot be written: {error.strerror or error}; name another folder."
        ) from error


def own_file(folder: Path, name: str, root: str | None = None) -> Path:
    """A file of the folder of somebody, perhaps of a stranger; it may be missing.

    Args:
        folder: which may itself be a link.
        name: of the file.
        root: where links may lead to, as a real path; by default that of the folder.

    Raises:
        UserError: a link leads elsewhere, so that a file of ours would be shown for theirs; or see
            `check_plain`.
    """
    path = folder / name
    real, inside = os.path.realpath(path), root or os.path.realpath(folder)
    if not real.startswith(os.path.join(inside, "")):
        raise UserError(
            f"{path} leads out of {inside}: it is not read; put a copy in its place, or remove it."
        )
    check_plain(path)
    return path


def check_plain(path: Path) -> None:
    """Refuse a pipe or a device, which may have no end; of a folder, who reads it is told.

    Raises:
        UserError: it is one.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise UserError(f"{path} is no plain file: it is not read; move it away.")


def read_text(path: Path) -> str | None:
    """What a file holds, letters that are none replaced; None when there is none.

    Raises:
        UserError: it is a folder, a pipe or a device, or cannot be read.
    """
    check_plain(path)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}), expected a file that a run wrote: move it away."
        ) from error


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in a file, empty when there is none, or only what nobody could read."""
    if not os.path.isfile(path):  # a pipe is never read to its end
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed writers of files of these names have left; none may be at work."""
    for name in names:
        for path in folder.glob(f".{name}*.tmp"):
            path.unlink()


def remove_whole(path: Path) -> None:
    """Remove a folder with all in it, or a file; of a link the link alone; nothing where there is nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)


@contextmanager
def naming_faults_of_disk(folder: Path) -> Iterator[None]:
    """Where libraries that write into a folder fail in words of their own, say what the disk has, if it has.

    Raises:
        OSError: of a full or failing disk, in the place of what was raised.
    """
    try:
        yield
    except Exception as error:
        number = None if isinstance(error, OSError) else _number_in(str(error)) or _try_to_write(folder)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(folder)) from error


def _number_in(said: str) -> int | None:
    """Of the system's error, where a library tells it, as those written in Rust do."""
    found = re.search(r"\(os error (\d+)\)", said)
    return int(found[1]) if found and int(found[1]) in REMEDIES else None


def _try_to_write(folder: Path) -> int | None:
    """What the system says against a file of 1 MiB, or as long as files may be, that is gone at once."""
    import resource  # not on Windows, of which `doctor` has a word to say

    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
            file.flush()
            if limit != resource.RLIM_INFINITY and any(
                path.is_file() and path.stat().st_size >= limit for path in folder.iterdir()
            ):
                os.pwrite(file.fileno(), b".", limit)
    except OSError as error:
        return error.errno if error.errno in REMEDIES else None
    return None


def sync_file(path: Path) -> None:
    """Return when the file's content would survive a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return when the folder's list of names would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
