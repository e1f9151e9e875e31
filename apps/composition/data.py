"""The sequences of a run: which there are, which are learned from and which are kept for the test, as tokens.

A sequence is ``[problem] x_1 .. x_L [end of input] outputs [end of sequence]``: parity of 1 0 1 with chain of
thought is ``P 1 0 1 I 1 1 0 E``. No sequence of a task is drawn twice, and none of its test is learned from.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.composition.data_config import DataConfig, split_sizes
from apps.composition.tasks import TaskConfig
from nanollama.config import config_hash
from nanollama.data.batch import PAD
from nanollama.errors import UserError
from nanollama.seeds import named_seed

Splits = Mapping[tuple[int, int], np.ndarray]
"""Inputs (n, L) by (number of the task, length L)."""
DAMAGE = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a truncated or changed ``.npz`` file raises, beside the errors of any wrong file."""
N_ENUMERATED = 1 << 20  # where there are at most so many sequences, they are drawn from the list of all


@dataclass(frozen=True)
class Dataset:
    """Input sequences to learn from (empty where they are drawn as training goes) and to test on."""

    train: Splits
    test: Splits


def build_dataset(config: DataConfig) -> Dataset:
    """The sequences of a config, a pure function of it; with ``config.file``, read or written there.

    Raises:
        UserError: the file holds other sequences, is damaged, or cannot be written.
    """
    if config.file is not None and config.file.exists():
        return read_dataset(config, config.file)
    train, test = {}, {}
    for number, task in enumerate(config.tasks):
        for length in config.lengths:
            n_train, n_test = split_sizes(len(task.inputs) ** length, config.n_train, config.n_test)
            seed = named_seed(config.seed, f"sequences/{task.key}/{length}")
            drawn = draw_distinct(task, length, n_train + n_test, np.random.default_rng(seed))
            # The test comes first, so that it stays the same when more is learned from.
            test[number, length], train[number, length] = drawn[:n_test], drawn[n_test:]
    dataset = Dataset(train, test)
    if config.file is not None:
        write_dataset(config, dataset, config.file)
    return dataset


def draw_distinct(task: TaskConfig, length: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` distinct input sequences (n, length), each set of n as likely as any other."""
    values = task.inputs
    n_distinct = len(values) ** length
    assert n <= n_distinct
    if n_distinct <= N_ENUMERATED:
        numbers = rng.permutation(n_distinct)[:n]
        digits = numbers[:, None] // len(values) ** np.arange(length) % len(values)
        return digits.astype(np.int64) + values.start
    drawn = np.empty((0, length), dtype=np.int64)
    while len(drawn) < n:
        more = rng.integers(values.start, values.stop, size=(n, length))
        drawn = np.concatenate([drawn, more])
        _, first = np.unique(drawn, axis=0, return_index=True)
        drawn = drawn[np.sort(first)]
    return drawn[:n]


def n_learned_from(tested: DataConfig, learned: DataConfig) -> int:
    """How many sequences that one config tests on another one may learn from.

    They are the same if they are up to the end of input, token by token: tasks of one problem token that
    are different functions ask the same questions.
    """
    if tested.tokens.end_of_input != learned.tokens.end_of_input:
        return 0
    test = build_dataset(tested.model_copy(update={"file": None})).test
    dataset = build_dataset(learned.model_copy(update={"file": None}))
    shift = tested.tokens.first_value - learned.tokens.first_value
    n = 0
    for (number, length), inputs in test.items():
        for other, task in enumerate(learned.tasks):
            if task.problem_token == tested.tasks[number].problem_token and length in learned.lengths:
                n += int(_is_learned(dataset, learned, (other, length), inputs + shift).sum())
    return n


def _is_learned(dataset: Dataset, config: DataConfig, key: tuple[int, int], inputs: np.ndarray) -> np.ndarray:
    """(n,) which inputs (n, L) of a task and length may be learned from."""
    if config.n_train is not None:
        return np.isin(as_codes(inputs), as_codes(dataset.train[key]))
    values = config.tasks[key[0]].inputs
    possible = ((inputs >= values.start) & (inputs < values.stop)).all(axis=1)
    return possible & ~np.isin(as_codes(inputs), as_codes(dataset.test[key]))


def as_codes(inputs: np.ndarray) -> np.ndarray:
    """One comparable value a sequence (n, L): its bytes."""
    return np.ascontiguousarray(inputs.astype(np.uint16)).view(f"S{2 * inputs.shape[1]}").ravel()


def encode(config: DataConfig, number: int, inputs: np.ndarray) -> np.ndarray:
    """Tokens (n, 1 + L + 1 + n_outputs + 1) of inputs (n, L) of a task."""
    task, tokens = config.tasks[number], config.tokens
    outputs = task.outputs(inputs, config.chain_of_thought)

    def column(token: int) -> np.ndarray:
        return np.full((len(inputs), 1), token, dtype=np.int64)

    return np.concatenate(
        [
            column(task.problem_token),
            inputs + tokens.first_value,
            column(tokens.end_of_input),
            outputs + tokens.first_value,
            column(tokens.end_of_sequence),
        ],
        axis=1,
    )


def encode_rows(
    config: DataConfig, groups: Mapping[tuple[int, int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences of several tasks and lengths in one array, group after group.

    Returns:
        tokens (n, width), padded at the end; inputs (n,) L of each; outputs (n,) of each.
    """
    encoded = {key: encode(config, key[0], inputs) for key, inputs in groups.items()}
    width = max(tokens.shape[1] for tokens in encoded.values())
    padded = [
        np.pad(tokens, ((0, 0), (0, width - tokens.shape[1])), constant_values=PAD)
        for tokens in encoded.values()
    ]
    lengths = np.concatenate([np.full(len(tokens), key[1]) for key, tokens in encoded.items()])
    n_outputs = np.concatenate(
        [np.full(len(tokens), tokens.shape[1] - key[1] - 3) for key, tokens in encoded.items()]
    )
    return np.concatenate(padded), lengths, n_outputs


def write_dataset(config: DataConfig, dataset: Dataset, path: Path) -> None:
    """Write the sequences as one ``.npz`` file, with the hash of the config they belong to.

    Raises:
        UserError: the file cannot be written.
    """
    arrays = {"config": np.array(json.dumps({"hash": _sequences_hash(config)}))}
    for split, sequences in (("train", dataset.train), ("test", dataset.test)):
        for (task, length), inputs in sequences.items():
            arrays[f"{split}/{task}/{length}"] = inputs.astype(np.int16)
    # Several processes of a run, or runs of a grid, may write it at once: each under a name of its own.
    new = path.with_name(f".{path.name}.{os.urandom(4).hex()}.new.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(new, **arrays)  # type: ignore[arg-type]
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise UserError(f"Cannot write {path}: {error.strerror}; name another data.file.") from None


def read_dataset(config: DataConfig, path: Path) -> Dataset:
    """Read what `write_dataset` wrote.

    Raises:
        UserError: it is another kind of file, or has the sequences of another config.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = json.loads(str(arrays["config"]))["hash"]
            splits: dict[str, dict[tuple[int, int], np.ndarray]] = {"train": {}, "test": {}}
            for name in arrays.files:
                if name != "config":
                    split, task, length = name.split("/")
                    splits[split][int(task), int(length)] = arrays[name].astype(np.int64)
        train, test = splits["train"], splits["test"]
        if any(np.isin(as_codes(test[key]), as_codes(train[key])).any() for key in train):
            raise ValueError("some of the test are learned from")
    except (OSError, ValueError, KeyError, TypeError, *DAMAGE) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is not a file of sequences ({reason}): remove it or name another.") from None
    if found != _sequences_hash(config):
        raise UserError(
            f"{path} holds the sequences of another data config: remove it, or name another data.file."
        )
    return Dataset(train, test)


def token_names(config: DataConfig) -> dict[int, str]:
    """What people call the tokens: values are numbers, a task is named where its problem begins."""
    tasks = {task.problem_token: f"<{task.implementation}>" for task in config.tasks}
    tokens = config.tokens
    n_values = max(task.n_values for task in config.tasks)
    values = {tokens.first_value + value: str(value) for value in range(n_values)}
    return values | tasks | {tokens.end_of_input: "<input ends>", tokens.end_of_sequence: "<end>"}


def sequences_hash(config: DataConfig, dataset: Dataset) -> str:
    """Hash of the sequences there are, and of the keys that decide which are drawn as training goes."""
    digest = hashlib.sha256(_sequences_hash(config).encode())
    for split in (dataset.train, dataset.test):
        for inputs in split.values():
            digest.update(np.ascontiguousarray(inputs).tobytes())
    return digest.hexdigest()[:16]


def _sequences_hash(config: DataConfig) -> str:
    """Hash of the keys that decide which sequences there are."""
    fixed = {"file": None, "phases": (), "n_epochs": None, "full_batch": False, "batching": "trimmed"}
    return config_hash(config.model_copy(update=fixed))
