"""Files that are whole or not there, and that never replace what a user has edited."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from nanollama.errors import UserError

SECONDS_OF_SILENCE = 3600
"""After them a temporary file is taken to be of a writer that was killed."""
State = Literal["written", "unchanged", "longer"]


@dataclass(frozen=True)
class Outcome:
    """What became of a file: ``written``, or kept since it is ``unchanged`` or ``longer`` than asked for.

    Counts, bytes and hash are those of the content asked for.
    """

    path: Path
    state: State
    n_lines: int
    n_bytes: int
    seconds: float
    sha256: str

    def __str__(self) -> str:
        if self.state == "longer":
            return (
                f"kept {self.path}: it holds the {self.n_lines:,} lines asked for and more; "
                "add --overwrite to cut it"
            )
        verb = "wrote" if self.state == "written" else "kept (nothing to change)"
        return (
            f"{verb} {self.path}: {self.n_lines:,} lines, {format_size(self.n_bytes)}, "
            f"{self.seconds:.1f} s, sha256 {self.sha256[:12]}"
        )


def write_lines(path: Path, chunks: Iterable[bytes], overwrite: bool = False) -> Outcome:
    """Write chunks of whole lines, at once visible and complete under `path`.

    A file that is there already is compared: one that begins with this content is kept, one that this
    content begins with is replaced.

    Args:
        path: its folder is made if missing.
        chunks: the content; each chunk ends with a line.
        overwrite: replace whatever is there.

    Raises:
        UserError: the file cannot be written, or holds something else.
    """
    start = time.perf_counter()
    digest, n_lines, n_bytes, n_bytes_there = hashlib.sha256(), 0, 0, 0
    with replacing(path) as new_path:
        with _open_old(path, overwrite) as old, open(new_path, "wb") as new:
            for chunk in chunks:
                there = old.read(len(chunk))
                if not chunk.startswith(there):
                    raise _differs(path, there, chunk, n_lines)
                new.write(chunk)
                digest.update(chunk)
                n_lines += chunk.count(b"\n")
                n_bytes += len(chunk)
                n_bytes_there += len(there)
            longer = bool(old.read(1))
        state: State = "longer" if longer else "unchanged" if n_bytes_there == n_bytes else "written"
        if state == "written":
            os.replace(new_path, path)
    return Outcome(path, state, n_lines, n_bytes, time.perf_counter() - start, digest.hexdigest())


def format_size(n_bytes: int) -> str:
    """A size as people read it: ``148.1 MB``, ``2.3 kB``."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.1f} kB"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, for `os.replace` to move to `path`; what is not moved is removed.

    One writer a folder at a time. Whoever looks at what is there does it inside: then, of several who make
    the same file longer at once, each finds what the one before has left, and nobody makes it shorter.

    Raises:
        UserError: for any OSError of the block.
    """
    # Not the number of the process: containers share it, and one that was killed has left its file.
    new_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_writer(path.parent):
            for left in path.parent.glob(f".{path.name}.*.tmp"):
                if time.time() - left.stat().st_mtime > SECONDS_OF_SILENCE:
                    left.unlink(missing_ok=True)
            try:
                yield new_path
            finally:
                new_path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror or error}; "
            "the data root must be a folder that can be written to, on a disk with room."
        ) from error


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes into a folder, and hold it; the system lets go when the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks lock no folder: files are whole there, too
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_old(path: Path, overwrite: bool) -> BinaryIO:
    return open(path, "rb") if path.exists() and not overwrite else io.BytesIO()


def _differs(path: Path, there: bytes, chunk: bytes, n_lines_before: int) -> UserError:
    pairs = zip(there.split(b"\n"), chunk.split(b"\n"), strict=False)
    n_same = next(number for number, (old, new) in enumerate(pairs) if old != new)
    return UserError(
        f"{path}:{n_lines_before + n_same + 1}: differs from what would be written, so it was edited or made "
        "from other templates; move the file away, or give --overwrite to the command that writes it."
    )
