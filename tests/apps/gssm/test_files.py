"""Files of sequences: the same run as drawing them, killed and concurrent writers, damage, wrong input."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from apps.gssm import data, files, train
from apps.gssm.files import config_of, hold, partial_of, read_sequences, write_progress
from apps.gssm.source import build_source
from nanollama.errors import UserError
from tests.apps.gssm.test_training import CONFIGS, SETS, arguments, graph_data, write_file
from tests.forked import kill_when
from tests.toy_training import rows


def test_a_file_gives_the_same_run_as_drawing(tmp_path: Path) -> None:
    assert write_file(tmp_path / "s.h5") == 0
    assert train.main(arguments(tmp_path / "file", f"data.file={tmp_path / 's.h5'}")) == 0
    assert train.main(arguments(tmp_path / "drawn", "data.n_data=50")) == 0
    losses = [[row["loss"] for row in rows(tmp_path / name, "metrics.jsonl")] for name in ("file", "drawn")]
    assert losses[0] == losses[1]
    hashes = [
        json.loads((tmp_path / name / "environment.json").read_text())["data"] for name in ("file", "drawn")
    ]
    assert hashes[0] == hashes[1] and {"source", "sequences"} <= hashes[0].keys()


@pytest.mark.slow
def test_a_killed_writer_leaves_the_same_file(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.h5", tmp_path / "cut.h5"
    assert write_file(whole, "chunk_size=1") == 0
    argv = [str(CONFIGS / "data.yaml"), f"file={cut}", f"sets={SETS}", "chunk_size=1"]
    progress = cut.with_name("cut.h5.progress")
    n_kills = 0
    for least in (3, 20, 60):
        code = kill_when(
            lambda least=least: progress.exists() and json.loads(progress.read_text())["n_chunks"] >= least,
            data.main,
            argv,
        )
        n_kills += code == -signal.SIGKILL
        assert cut.exists() != partial_of(cut).exists()
    assert n_kills
    assert data.main(argv) == 0
    assert not partial_of(cut).exists() and not progress.exists()
    import h5py

    with h5py.File(whole) as one, h5py.File(cut) as other:
        for name in ("a/train", "a/test", "b/train", "b/test"):
            assert np.array_equal(one[name][:], other[name][:])
    # The names of the files are not in them, the configs' hashes are.
    texts = [path.read_bytes().replace(_hash(path), b"") for path in (whole, cut)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("n_chunks", [-1, 10**9, 2.5, "x", None])
def test_a_progress_that_cannot_be_is_not_believed(n_chunks: object, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    assert write_file(path) == 0
    whole, sequences = path.read_bytes(), build_source(graph_data()).draw_many(range(50)).tobytes()
    assert whole.count(sequences) == 1
    progress = {"config": config_of(path), "n_chunks": n_chunks}
    path.with_name("s.h5.progress").write_text(json.dumps(progress))
    partial_of(path).write_bytes(whole.replace(sequences, bytes(len(sequences))))
    path.unlink()
    assert write_file(path) == 0
    assert path.read_bytes() == whole


def _cut_short(path: Path, monkeypatch: pytest.MonkeyPatch, *keys: str, n_chunks: int = 3) -> None:
    """Leave a file after so many chunks."""

    def write(path: Path, config_hash: str, n_done: int) -> None:
        write_progress(path, config_hash, n_done)
        if n_done == n_chunks:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_progress", write)
        assert write_file(path, *keys) != 0
    assert partial_of(path).exists() and not path.exists()


@pytest.mark.parametrize("is_noted", [True, False])
def test_an_unfinished_file_of_another_config_stays_unless_told_otherwise(
    is_noted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.h5"
    _cut_short(path, monkeypatch)
    progress = path.with_name("s.h5.progress")
    if not is_noted:
        progress.unlink()
    before = {each: each.read_bytes() for each in (partial_of(path), progress) if each.exists()}
    for key in ("chunk_size=8", "sets.0.kernel_seed=3"):
        capsys.readouterr()
        assert write_file(path, key) == 2
        said = capsys.readouterr().err
        assert f"{partial_of(path)} was begun from another config" in said and "chunk_size too" in said
        assert {each: each.read_bytes() for each in before} == before
    assert write_file(path) == 0
    assert ("Going on after 3 chunks" in capsys.readouterr().out) == is_noted
    path.unlink()
    _cut_short(path, monkeypatch)
    assert write_file(path, "chunk_size=8", "overwrite=true") == 0


def test_a_file_left_before_it_was_laid_out_is_begun_anew(tmp_path: Path) -> None:
    partial_of(tmp_path / "s.h5").write_bytes(b"half a header")
    assert write_file(tmp_path / "s.h5") == 0


def test_an_unfinished_file_that_is_damaged_is_not_replaced_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is noted beside it says that something is in it."""
    path = tmp_path / "s.h5"
    _cut_short(path, monkeypatch)
    partial_of(path).write_bytes(b"no")
    assert write_file(path, "chunk_size=8") == 2
    assert "was begun from another config" in capsys.readouterr().err
    assert partial_of(path).read_bytes() == b"no"


def _hash(path: Path) -> bytes:
    import h5py

    with h5py.File(path) as file:
        return str(file.attrs["config"]).encode()


def test_a_file_holds_what_its_seeds_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.h5"
    assert write_file(path) == 0
    source = build_source(graph_data())
    assert np.array_equal(read_sequences(path, source, 17), source.draw(range(17)))
    import h5py

    with h5py.File(path) as file:
        assert np.array_equal(file["a/test"][:], source.draw_test(9).symbols)
        assert file["b/train"].shape == (21, 9) and file["b/test"].shape == (1024, 9)
    before = path.read_bytes()
    assert write_file(path) == 0
    assert path.read_bytes() == before and "is complete" in capsys.readouterr().out
    assert write_file(path, "chunk_size=9") == 2
    assert "another config" in capsys.readouterr().err
    assert write_file(path, "chunk_size=9", "overwrite=true") == 0


def _damaged(path: Path) -> None:
    write_file(path)
    sequences = read_sequences(path, build_source(graph_data()), None)
    content = bytearray(path.read_bytes())
    content[content.index(sequences[30].tobytes())] ^= 1
    path.write_bytes(content)


WRONG_FILES = {
    "does not exist": (lambda path: None, []),
    "has not been finished": (lambda path: partial_of(path).write_bytes(b""), []),
    "is damaged: Unable to": (lambda path: path.write_bytes(b"no"), []),
    "holds no sequences of this graph": (write_file, ["data.kernel_seed=7"]),
    "more than the 50 sequences of 'a'": (write_file, ["data.n_data=51"]),
    "is damaged: the sequences of 'a' are not those that were written; remove it": (
        _damaged,
        ["data.n_data=5"],
    ),
}


@pytest.mark.parametrize("message", WRONG_FILES)
def test_a_wrong_file_is_told(message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, keys = WRONG_FILES[message]
    make(tmp_path / "s.h5")
    assert train.main(arguments(tmp_path / "run", f"data.file={tmp_path / 's.h5'}", *keys)) == 2
    assert message in capsys.readouterr().err


def test_a_file_with_two_sets_of_one_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = f"sets=[{', '.join(['{name: a, graph: debug, seq_len: 4, n_train: 2}'] * 2)}]"
    assert data.main([str(CONFIGS / "data.yaml"), f"file={tmp_path / 's.h5'}", sets]) == 2
    assert "two sources are called 'a'" in capsys.readouterr().err


def test_one_process_writes_a_file_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "s.h5"
    with hold(path):
        assert write_file(path) == 2
        assert f"Another process is writing {path}" in capsys.readouterr().err
    assert {each.name for each in path.parent.iterdir()} == {".s.h5.lock"}
    assert write_file(path) == 0


@pytest.mark.filterwarnings("ignore")  # h5py's about names that no longer are text
def test_no_damage_goes_unnoticed_or_unexplained(tmp_path: Path) -> None:
    """One byte after another of what stands before and between the sequences."""
    path, source = tmp_path / "s.h5", build_source(graph_data())
    assert write_file(path) == 0
    whole, sequences = path.read_bytes(), source.draw(range(50))
    rng, told = np.random.default_rng(0), 0
    for place in rng.integers(0, len(whole), size=300):
        content = bytearray(whole)
        content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            assert np.array_equal(read_sequences(path, source, None), sequences)
        except UserError as error:
            told += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert told > 10


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no folder")
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "text" / "s.h5", "cannot be written")):
        assert write_file(path) == 2
        assert f"{path} {message}" in capsys.readouterr().err
    assert train.main(arguments(tmp_path / "run", f"data.file={tmp_path}")) == 2
    assert f"data.file = {tmp_path} is a folder" in capsys.readouterr().err


def test_a_file_larger_than_the_disk_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = "sets=[{name: a, graph: debug, seq_len: 4000, n_train: 1000000000000}]"
    assert data.main([str(CONFIGS / "data.yaml"), f"file={tmp_path / 's.h5'}", sets]) == 2
    assert "set smaller n_train" in capsys.readouterr().err
    assert not partial_of(tmp_path / "s.h5").exists()


def test_a_disk_without_room_is_told_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota, of which the free space of the disk says nothing, and a file system fuller than it says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))
    try:
        assert write_file(tmp_path / "s.h5") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{tmp_path / 's.h5'} cannot be written" in capsys.readouterr().err

    def full(descriptor: int, offset: int, n_bytes: int) -> None:
        assert n_bytes == partial_of(tmp_path / "s.h5").stat().st_size
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert write_file(tmp_path / "s.h5") == 2
    assert "No space left on device): make room for" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("s.h5")]
