"""Sequences: how many there are, that none is drawn twice or leaks into the test, how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from apps.composition.data import build_dataset, draw_distinct, encode, encode_rows
from apps.composition.data_config import DataConfig, split_sizes
from nanollama.errors import UserError

PARITY = {"implementation": "parity", "problem_token": 32}
POLYNOMIAL = {"implementation": "polynomial", "problem_token": 33, "modulus": 5}


def data_config(*tasks: dict[str, Any], **keys: Any) -> DataConfig:
    """Parity of up to six bits, unless told otherwise."""
    defaults: dict[str, Any] = {"max_length": 6, "n_train": 24, "n_test": 8}
    return DataConfig(**{"tasks": tasks or (PARITY,), **defaults, **keys})


def test_a_sequence_as_tokens() -> None:
    config = data_config(
        PARITY, POLYNOMIAL, tokens={"first_value": 10, "end_of_input": 1, "end_of_sequence": 2}
    )
    bits = np.array([[1, 0, 1, 1]])
    assert encode(config, 0, bits).tolist() == [[32, 11, 10, 11, 11, 1, 11, 11, 10, 11, 2]]
    assert encode(config, 1, np.array([[4, 2]])).tolist() == [[33, 14, 12, 1, 14, 14, 2]]  # 4; 4 * 2 + 1 = 4
    short = config.model_copy(update={"chain_of_thought": False})
    assert encode(short, 0, bits).tolist() == [[32, 11, 10, 11, 11, 1, 11, 2]]


@pytest.mark.parametrize(
    ("n_distinct", "n_train", "n_test", "expected"),
    [
        (1000, 24, 8, (24, 8)),
        (32, 24, 8, (24, 8)),
        (16, 24, 8, (12, 4)),  # all, in proportion
        (2, 24, 8, (2, 0)),
        (2, 8, 8, (1, 1)),
        (1000, None, 8, (0, 8)),
        (10, None, 8, (0, 5)),
        (1, None, 8, (0, 0)),
    ],
)
def test_split_sizes(n_distinct: int, n_train: int | None, n_test: int, expected: tuple[int, int]) -> None:
    assert split_sizes(n_distinct, n_train, n_test) == expected


@pytest.mark.parametrize("task", [PARITY, POLYNOMIAL])
@pytest.mark.parametrize("max_length", [6, 30])
def test_nothing_is_drawn_twice_or_leaks(task: dict[str, Any], max_length: int) -> None:
    config = data_config(task, max_length=max_length)
    dataset = build_dataset(config)
    n_examples = 0
    for key, train in dataset.train.items():
        both = np.concatenate([train, dataset.test[key]])
        values = config.tasks[0].inputs
        assert len(np.unique(both, axis=0)) == len(both) == min(len(values) ** key[1], 32)
        assert both.min() >= values.start and both.max() < values.stop
        n_examples += len(train)
    assert n_examples == config.n_examples


def test_long_sequences_are_drawn_without_replacement_when_they_nearly_run_out() -> None:
    task = data_config().tasks[0]
    every = draw_distinct(task, 5, 32, np.random.default_rng(0))
    assert len(np.unique(every, axis=0)) == 32
    long = draw_distinct(task, 40, 500, np.random.default_rng(0))
    assert long.shape == (500, 40) and len(np.unique(long, axis=0)) == 500
    assert abs(long.mean() - 0.5) < 0.02


def test_the_test_set_is_the_same_whatever_is_learned_beside_it() -> None:
    alone = build_dataset(data_config())
    mixed = build_dataset(data_config(POLYNOMIAL, PARITY))
    for length in range(1, 7):
        assert np.array_equal(alone.test[0, length], mixed.test[1, length])
    other = build_dataset(data_config(seed=1))
    assert not np.array_equal(alone.test[0, 6], other.test[0, 6])


@pytest.mark.parametrize("max_length", [8, 30])
def test_the_test_set_is_the_same_however_much_is_learned(max_length: int) -> None:
    few, many = (build_dataset(data_config(max_length=max_length, n_train=n_train)) for n_train in (24, 100))
    for length in (7, max_length):
        assert np.array_equal(few.test[0, length], many.test[0, length])


def test_lengths_are_drawn_independently() -> None:
    test = build_dataset(data_config(max_length=31)).test
    assert not np.array_equal(test[0, 30].ravel()[:100], test[0, 31].ravel()[:100])


def test_draws_are_in_random_order_also_where_some_come_twice() -> None:
    task = data_config().tasks[0]
    drawn = draw_distinct(task, 21, 5000, np.random.default_rng(0))  # of two million: some six come twice
    assert len(np.unique(drawn, axis=0)) == 5000
    for part in (drawn, drawn[:1000]):
        assert abs(part.mean(axis=0) - 0.5).max() < 0.05


def test_rows_of_several_lengths_are_padded_at_the_end() -> None:
    config = data_config()
    tokens, n_inputs, n_outputs = encode_rows(config, {(0, 1): np.array([[1]]), (0, 2): np.array([[1, 1]])})
    assert tokens.tolist() == [[32, 1, 62, 1, 63, 0, 0], [32, 1, 1, 62, 1, 0, 63]]
    assert (n_inputs.tolist(), n_outputs.tolist()) == ([1, 2], [1, 2])


def test_processes_that_start_together_do_not_spoil_each_others_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sequences.npz"
    config = data_config(file=path)
    names: list[Path] = []
    save = np.savez_compressed

    def save_while_another_does(file: Path, **arrays: Any) -> None:
        names.append(file)
        if len(names) == 1:  # the other one comes from beginning to end while this one writes
            build_dataset(config)
        save(file, **arrays)

    def half_way(file: Path, **arrays: Any) -> None:
        save(file, **arrays)
        if len(names) == 0:
            names.append(file)
            build_dataset(config)

    for writer in (save_while_another_does, half_way):
        path.unlink(missing_ok=True)
        names.clear()
        monkeypatch.setattr(np, "savez_compressed", writer)
        build_dataset(config)
        assert [entry.name for entry in tmp_path.iterdir()] == ["sequences.npz"]
    monkeypatch.undo()
    build_dataset(config)


def test_sequences_are_written_once_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sequences.npz"
    config = data_config(PARITY, POLYNOMIAL, file=path)
    written, read = build_dataset(config), build_dataset(config)
    in_memory = build_dataset(config.model_copy(update={"file": None}))
    for dataset in (read, in_memory):
        for name in ("train", "test"):
            one, other = getattr(written, name), getattr(dataset, name)
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)
    assert [entry.name for entry in path.parent.iterdir()] == ["sequences.npz"]
    for otherwise in (
        {"phases": ({"from_step": 5, "max_length": 2},)},
        {"batching": "bucketed"},
        {"n_epochs": 3},
    ):
        build_dataset(data_config(PARITY, POLYNOMIAL, file=path, **otherwise))  # the same sequences
    with pytest.raises(UserError, match=r"sequences\.npz holds the sequences of another data config"):
        build_dataset(config.model_copy(update={"n_test": 9}))
    whole = path.read_bytes()
    changed = whole[:60] + bytes(30) + whole[90:]
    for damaged in (b"no archive", b"", b"PK\x03\x04", whole[: len(whole) // 2], changed):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"sequences\.npz is not a file of sequences \(\w"):
            build_dataset(config)


def test_sequences_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write .*sequences\.npz: (File exists|Not a directory);"):
        build_dataset(data_config(PARITY, file=tmp_path / "file" / "sequences.npz"))


def test_large_values_survive_a_file(tmp_path: Path) -> None:
    config = data_config({**POLYNOMIAL, "modulus": 1000}, max_length=3, tokens={"first_value": 100})
    expected = build_dataset(config)
    for _ in ("written", "read"):
        found = build_dataset(config.model_copy(update={"file": tmp_path / "sequences.npz"}))
        assert np.array_equal(found.test[0, 3], expected.test[0, 3]) and expected.test[0, 3].max() > 255


def test_a_file_that_is_not_written_to_its_end_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, **arrays: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    config = data_config(file=tmp_path / "sequences.npz")
    with pytest.raises(KeyboardInterrupt):
        build_dataset(config)
    monkeypatch.undo()
    assert build_dataset(config).test.keys() == build_dataset(config).test.keys()


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sequences.npz"
    for content in ({"x": np.zeros(3)}, {"config": np.array("[1]")}):
        np.savez(path, **content)
        with pytest.raises(UserError, match=r"sequences\.npz is not a file of sequences"):
            build_dataset(data_config(file=path))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"min_length": 7}, "min_length = 7 is more than max_length = 6"),
        (
            {"tasks": ({**PARITY, "problem_token": 1},)},
            "tasks.0.problem_token = 1 is also the token of value 1",
        ),
        (
            {"tasks": (PARITY, {**POLYNOMIAL, "problem_token": 32})},
            "tasks.1.problem_token = 32 is also the token of",
        ),
        ({"tokens": {"end_of_input": 63}}, "end_of_sequence = 63 is also the token of end_of_input"),
        ({"tasks": ({**PARITY, "weight": 0},)}, "every task has weight 0"),
        ({"n_train": None, "n_epochs": 3}, "n_train = null draws fresh sequences without end"),
        ({"file": "sequences.csv"}, "sequences.csv must end in .npz"),
        ({"tasks": (PARITY, POLYNOMIAL), "full_batch": True}, "full_batch needs a single task, not 2"),
        ({"full_batch": True, "phases": ({"from_step": 0, "max_length": 3},)}, "leave phases out"),
        ({"phases": ({"from_step": 5}, {"from_step": 5})}, "phases must follow each other: 5 after 5"),
        ({"phases": ({"from_step": 5, "weights": (1, 2)},)}, "from step 5 has 2 weights for 1 tasks"),
        ({"phases": ({"from_step": 5, "weights": (0,)},)}, "from step 5 needs weights >= 0, not all 0"),
        ({"phases": ({"from_step": 5, "max_length": 9},)}, "has lengths 1 to 9; the data have 1 to 6"),
        (
            {"tasks": ({"implementation": "sparse_addition", "problem_token": 40, "n_terms": 3},)},
            "adds n_terms = 3 inputs, more than min_length = 1",
        ),
    ],
)
def test_impossible_data_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        data_config(**keys)
