"""Folders that are either complete or not there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanollama.errors import UserError


@contextmanager
def written_aside(folder: Path, names: re.Pattern[str], overwrite: bool) -> Iterator[Path]:
    """A folder to write into, which takes the place of another once all is written, or is removed.

    Args:
        folder: whose place it takes.
        names: of the files that may be replaced: a folder that holds anything else is left alone.
        overwrite: replace a folder that is not empty.

    Raises:
        UserError: the folder is not to be replaced, or nothing can be written there.
    """
    folder = Path(os.path.abspath(folder))  # of a name such as "." too
    _check(folder, names, overwrite)
    mark = f"{folder.name}.{os.getpid()}.{os.urandom(4).hex()}"
    new, old = folder.with_name(f".{mark}.new"), folder.with_name(f".{mark}.old")
    try:
        new.mkdir(parents=True)
        yield new
        _check(folder, names, overwrite)  # it may have been filled meanwhile
        try:
            if folder.exists():
                os.rename(folder, old)
            os.rename(new, folder)
        except BaseException:  # also where one interrupts it
            if old.exists() and not folder.exists():
                os.rename(old, folder)
            raise
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written: {error.strerror or error}; name another one."
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check(folder: Path, names: re.Pattern[str], overwrite: bool) -> None:
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise UserError(f"{folder} is no folder: name another one.")
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if there and not overwrite:
        raise UserError(f"The folder {folder} is not empty: name another one, or add --overwrite.")
    others = [name for name in there if not names.fullmatch(name)]
    if others:
        raise UserError(
            f"The folder {folder} holds {others[0]}, which no export writes, so it is not replaced: name "
            "another one."
        )
