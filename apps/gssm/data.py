"""Write sequences into a file beforehand: ``python -m apps.gssm.data CONFIG [key=value ...]``.

They are the same that a run would draw itself. Stopped or killed at any moment, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from apps.gssm import files
from apps.gssm.data_config import FIRST_TEST
from apps.gssm.settings import DataFileConfig
from apps.gssm.source import Source, build_source
from nanollama.config import config_hash
from nanollama.entrypoint import run_main
from nanollama.errors import UserError

FIRST = {"train": 0, "test": FIRST_TEST}
"""Numbers of the first sequences of each part."""

Sets = Mapping[str, tuple[Source, Mapping[str, int]]]


def run(config: DataFileConfig) -> None:
    """Write what is missing of the file.

    Raises:
        UserError: a file of another config is there, finished or not, another process is writing it, or no
            alpha gives the entropy that is wanted.
    """
    with files.hold(config.file):
        _run(config)


def _run(config: DataFileConfig) -> None:
    path, made_from = config.file, config_hash(config.model_copy(update={"overwrite": False}))
    if not config.overwrite and path.exists():
        if files.config_of(path) != made_from:
            raise _of_another_config(path, "written")
        print(f"{path} is complete.")
        return
    if not config.overwrite and files.begun_from(path) not in (None, made_from):
        raise _of_another_config(files.partial_of(path), "begun")
    sets: Sets = {
        each.name: (build_source(each), {"train": each.n_train, "test": each.n_test}) for each in config.sets
    }
    write(config, sets, made_from)
    for name, (source, parts) in sets.items():
        sizes = ", ".join(f"{n:,} {part}" for part, n in parts.items())
        print(f"{name}: {sizes} sequences of {source.n_symbols} symbols")
    print(f"wrote {path}")


def _of_another_config(path: Path, how: str) -> UserError:
    return UserError(
        f"{path} was {how} from another config: expected the same in every key, chunk_size too. Take the "
        "config it was made from, choose another `file`, or replace it with overwrite=true."
    )


def write(config: DataFileConfig, sets: Sets, made_from: str) -> None:
    """Write chunk after chunk, from the first that is missing."""
    path, partial = config.file, files.partial_of(config.file)
    n_chunks = sum(-(-n // config.chunk_size) for _, parts in sets.values() for n in parts.values())
    n_done = files.read_progress(path, made_from, n_chunks)
    if n_done is None:
        files.create(path, made_from, sets)
        n_done = 0
    else:
        print(f"Going on after {n_done} chunks.")
    places = files.find_places(partial)
    for number, (name, part, rows) in enumerate(chunks(sets, config.chunk_size)):
        if number < n_done:
            continue
        first = FIRST[part]
        target = places[name][part].map("r+")
        target[rows.start : rows.stop] = sets[name][0].draw(range(first + rows.start, first + rows.stop))
        assert isinstance(target, np.memmap)
        target.flush()
        files.write_progress(path, made_from, number + 1)
    files.complete(path)


def chunks(sets: Sets, size: int) -> Iterator[tuple[str, str, range]]:
    """Set, part and rows of each chunk, in the order in which they are written."""
    for name, (_, parts) in sets.items():
        for part, n_sequences in parts.items():
            for start in range(0, n_sequences, size):
                yield name, part, range(start, min(start + size, n_sequences))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(DataFileConfig, run, argv, "Write sequences of one or several graphs into an HDF5 file.")


if __name__ == "__main__":
    sys.exit(main())
