"""HDF5 files of sequences: a group a source, in it `train` (n, T + 1) and `test`, unsigned 16-bit symbols.

Each of them has the SHA-256 of its bytes as an attribute, which reading checks.

Both are laid out in one piece each when the file is made, so that chunks are written, and sequences read,
through a memory map at a known place of the file. Until all are written the file is called ``NAME.partial``,
and ``NAME.progress`` says how many chunks are done: a writer killed at any moment goes on from there, and
the file ends with the same bits. A file under its own name is complete. One process writes it at a time: it
holds ``.NAME.lock`` beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.gssm.source import Source
from nanollama.errors import MissingExtraError, UserError
from nanollama.monitor.files import write_atomically
from nanollama.monitor.locks import take_lock

if TYPE_CHECKING:
    import h5py

DTYPE = np.dtype("<u2")
CONFIG, SOURCE, BYTES = "config", "source_sha256", "sha256"
"""Names of attributes: the config's hash; of a group, what its sequences are; of a part, its bytes' hash."""
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    ArithmeticError,
    MemoryError,
)
"""What reading an HDF5 file of which some bytes are wrong may end in."""


@dataclass(frozen=True)
class Place:
    """Where sequences lie in a file.

    Args:
        path: of the file.
        offset: of the first symbol, in bytes.
        shape: (n, T + 1).
    """

    path: Path
    offset: int
    shape: tuple[int, int]

    def map(self, mode: str = "r") -> np.ndarray:
        """The sequences, as they lie in the file."""
        return np.memmap(self.path, DTYPE, mode, self.offset, self.shape)  # type: ignore[call-overload]


def partial_of(path: Path) -> Path:
    """What a file is called before it is complete."""
    return path.with_name(f"{path.name}.partial")


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Be the only process that writes a file, until the process ends, however it ends.

    Raises:
        UserError: another process is writing it, or nothing can be written there.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the HDF5 file to write in it.")
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): name a file in a folder that can be made."
        ) from error
    try:
        if not take_lock(descriptor, path):
            raise UserError(f"Another process is writing {path}: wait for its end, or choose another `file`.")
        yield
    finally:
        os.close(descriptor)


def create(path: Path, config_hash: str, sets: Mapping[str, tuple[Source, Mapping[str, int]]]) -> None:
    """Lay out a file without its sequences.

    Args:
        path: of the file when it is complete.
        config_hash: of what it is made from.
        sets: by name, the source and how many sequences each part has.

    Raises:
        MissingExtraError: h5py is not installed.
        UserError: there is no room for it on the disk.
    """
    hdf5 = _hdf5()
    n_bytes = DTYPE.itemsize * sum(source.n_symbols * sum(n.values()) for source, n in sets.values())
    n_free = shutil.disk_usage(path.parent).free
    if n_bytes > n_free:
        raise UserError(
            f"{path} would take {n_bytes:,} bytes, and the disk has {n_free:,} free: set smaller "
            "n_train or n_test, or choose another `file`."
        )
    _progress_of(path).unlink(missing_ok=True)  # it is about another file
    partial = partial_of(path)
    try:
        _lay_out(hdf5, partial, config_hash, sets)
        _reserve(partial)
    except (OSError, RuntimeError) as error:  # h5py's of a full disk are either
        partial.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({' '.join(str(error).split())}): make room for {n_bytes:,} bytes, "
            "set smaller n_train or n_test, or choose another `file`."
        ) from error


def _lay_out(
    hdf5: ModuleType, path: Path, config_hash: str, sets: Mapping[str, tuple[Source, Mapping[str, int]]]
) -> None:
    early = hdf5.h5p.create(hdf5.h5p.DATASET_CREATE)
    early.set_layout(hdf5.h5d.CONTIGUOUS)
    early.set_alloc_time(hdf5.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(hdf5.h5d.FILL_TIME_NEVER)
    early.set_obj_track_times(False)
    kind = hdf5.h5t.py_create(DTYPE)
    with hdf5.File(path, "w") as file:
        file.attrs[CONFIG] = config_hash
        for name, (source, parts) in sets.items():
            group = file.create_group(name)
            group.attrs[SOURCE] = source.sha256
            group.attrs["graph"] = source.graph.model_dump_json()
            group.attrs["kernel_seed"] = source.kernel_seed
            group.attrs["sequence_seed"] = source.sequence_seed
            for part, n_sequences in parts.items():
                space = hdf5.h5s.create_simple((n_sequences, source.n_symbols))
                hdf5.h5d.create(group.id, part.encode(), kind, space, early)
                group[part].attrs[BYTES] = np.bytes_(b"-" * 64)  # its place: `complete` fills it


def _reserve(path: Path) -> None:
    """Take the room of a file now: on a full disk, a write through a memory map kills the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def find_places(path: Path) -> dict[str, dict[str, Place]]:
    """Where the sequences of a file lie, by set and part.

    Raises:
        UserError: it is damaged.
    """
    with _reading(path) as file:
        return {
            name: {part: _place(path, data) for part, data in group.items()} for name, group in file.items()
        }


def config_of(path: Path) -> str | None:
    """The hash of the config that a file was made from; None where it says none.

    Raises:
        UserError: it is damaged, or not an HDF5 file.
    """
    with _reading(path) as file:
        found = file.attrs.get(CONFIG)
        return None if found is None else str(found)


def begun_from(path: Path) -> str | None:
    """The hash of the config that an unfinished file was begun from.

    None where none was begun, and where it was left before it was laid out: there is nothing in it.
    """
    partial = partial_of(path)
    if not partial.exists():
        return None
    try:
        return config_of(partial)
    except UserError:  # cut off while it was laid out, or damaged since
        return _noted(path).get(CONFIG)


def read_sequences(path: Path, source: Source, n_data: int | None) -> np.ndarray:
    """The first sequences to learn from that a file holds of a source: (n_data, T + 1), or all of them.

    Raises:
        UserError: the file is missing, unfinished, damaged, of other sources, or too short.
    """
    if path.is_dir():
        raise UserError(f"data.file = {path} is a folder: name an HDF5 file of `python -m apps.gssm.data`.")
    if not path.is_file():
        begun = partial_of(path).exists()
        todo = "has not been finished: run the same command of" if begun else "does not exist: write it with"
        again = " again" if begun else ""
        raise UserError(f"data.file = {path} {todo} `python -m apps.gssm.data CONFIG`{again}.")
    with _reading(path) as file:
        groups = {name: group.attrs.get(SOURCE) for name, group in file.items()}
        name = next((each for each, found in groups.items() if found == source.sha256), None)
        if name is None:
            raise UserError(
                f"data.file = {path} holds no sequences of this graph, seeds, alphas and seq_len, but "
                f"{', '.join(groups) or 'none at all'}: set data as in the config that it was written from."
            )
        place = _place(path, file[name]["train"])
        sequences, written = place.map(), file[name]["train"].attrs[BYTES]
        if sequences.shape[1] != source.n_symbols or _sha256(sequences) != written:
            raise ValueError(f"the sequences of '{name}' are not those that were written")
    if n_data is not None and n_data > len(sequences):
        raise UserError(
            f"data.n_data = {n_data} is more than the {len(sequences)} sequences of '{name}' in {path}."
        )
    return sequences[:n_data]


def read_progress(path: Path, config_hash: str, n_chunks: int) -> int | None:
    """How many of the `n_chunks` of an unfinished file are written.

    None where none was begun from this config, and where what is noted cannot be: the file is written anew.
    """
    found = _noted(path)
    if found.get(CONFIG) != config_hash or not partial_of(path).is_file():
        return None
    n_done = found.get("n_chunks")
    return n_done if type(n_done) is int and 0 <= n_done <= n_chunks else None


def _noted(path: Path) -> dict[str, Any]:
    """What is noted of the progress of a file; nothing where that cannot be read."""
    try:
        found = json.loads(_progress_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_progress(path: Path, config_hash: str, n_chunks: int) -> None:
    """Say how many chunks are written."""
    write_atomically(_progress_of(path), json.dumps({CONFIG: config_hash, "n_chunks": n_chunks}))


def complete(path: Path) -> None:
    """Note what its bytes are, and give a file its own name, all of it being written."""
    found = {
        f"{name}/{part}": _sha256(place.map())
        for name, parts in find_places(partial_of(path)).items()
        for part, place in parts.items()
    }
    with _hdf5().File(partial_of(path), "r+") as file:
        for name, digest in found.items():
            file[name].attrs.modify(BYTES, digest)  # in place: whoever is killed here goes on
    os.replace(partial_of(path), path)
    _progress_of(path).unlink(missing_ok=True)


def _progress_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.progress")


def _place(path: Path, data: h5py.Dataset) -> Place:
    n_sequences, n_symbols = data.shape
    return Place(path, data.id.get_offset(), (n_sequences, n_symbols))


def _sha256(sequences: np.ndarray) -> np.bytes_:
    return np.bytes_(sha256(np.ascontiguousarray(sequences).data).hexdigest())


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """An open file; whatever its bytes make h5py say is told as damage."""
    hdf5 = _hdf5()
    try:
        with hdf5.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        raise UserError(
            f"{path} is damaged: {' '.join(str(error).split())}; remove it and write it again with "
            "`python -m apps.gssm.data CONFIG`."
        ) from error


def _hdf5() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "hdf5") from None
    return h5py
