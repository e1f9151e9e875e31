"""No sequence of a test is learned from, whatever the config says, nor was by weights a run starts from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from apps.composition import train
from apps.composition.data import (
    Dataset,
    Splits,
    build_dataset,
    encode,
    n_learned_from,
    read_dataset,
    write_dataset,
)
from apps.composition.data_config import DataConfig
from apps.composition.settings import CompositionConfig
from apps.composition.streams import build_stream
from nanollama.data.batch import IGNORE, Batch
from nanollama.errors import UserError
from nanollama.launcher.plan import read_grid

CONFIGS = Path(__file__).parents[3] / "apps/composition/config"
SIZES = st.integers(1, 40)
Row = tuple[int, ...]


@st.composite
def tasks(draw: st.DrawFn, problem_token: int) -> dict[str, Any]:
    """Any task of few values."""
    modulus = draw(st.integers(3, 5))  # polynomials modulo 2 have one input, so nothing to test on
    table = draw(
        st.lists(
            st.lists(st.integers(0, modulus - 1), min_size=modulus, max_size=modulus),
            min_size=modulus,
            max_size=modulus,
        )
    )
    task: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"implementation": "copy"},
                {"implementation": "parity"},
                {"implementation": "polynomial", "modulus": modulus},
                {"implementation": "table", "table": table},
                {"implementation": "sparse_addition", "modulus": modulus, "n_terms": 1},
            ]
        )
    )
    return {**task, "problem_token": problem_token, "weight": draw(st.sampled_from([0.5, 1, 2]))}


@st.composite
def data_configs(draw: st.DrawFn) -> DataConfig:
    """Data of a run, in one phase or two."""
    n_tasks = draw(st.integers(1, 3))
    low = draw(st.integers(1, 4))
    high = draw(st.integers(low, low + 4))
    is_fresh = draw(st.booleans())
    phases = [{"from_step": 0, "max_length": draw(st.integers(low, high))}, {"from_step": 2}]
    keys = {
        "tasks": [draw(tasks(32 + number)) for number in range(n_tasks)],
        "tokens": {"first_value": draw(st.integers(0, 2))},
        "chain_of_thought": draw(st.booleans()),
        "min_length": low,
        "max_length": high,
        "n_train": None if is_fresh else draw(SIZES),
        "n_test": draw(SIZES),
        "seed": draw(st.integers(0, 3)),
        "batching": "trimmed" if is_fresh else draw(st.sampled_from(["trimmed", "bucketed"])),
        "phases": draw(st.sampled_from([[], phases])),
    }
    try:
        return DataConfig.model_validate(keys)
    except ValidationError as error:
        assert "too few distinct sequences" in str(error)
        return DataConfig.model_validate({**keys, "n_train": 1, "n_test": 40, "max_length": low + 4})


def written(config: DataConfig, groups: Splits, questions: bool = False) -> set[Row]:
    """Sequences as tokens; as questions, up to the end of input."""
    return {
        tuple(row)
        for (task, length), inputs in groups.items()
        for row in encode(config, task, inputs)[:, : length + 2 if questions else None].tolist()
    }


def rows_of(batch: Batch) -> set[Row]:
    """The sequences of a batch, put together from inputs and targets."""
    assert batch.query_positions is not None
    rows = set()
    for ids, targets, positions in zip(batch.input_ids, batch.targets, batch.query_positions, strict=True):
        real = targets != IGNORE
        rows.add((*ids[: int(positions[real][-1]) + 1].tolist(), int(targets[real][-1])))
    return rows


@given(config=data_configs(), in_file=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_sequence_of_the_test_is_learned_from(config: DataConfig, in_file: bool, seed: int) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "sequences.npz" if in_file else None
        config = config.model_copy(update={"file": file})
        if in_file:
            build_dataset(config)
        dataset = build_dataset(config)
    kept = written(config, dataset.test)
    stream = build_stream(config, dataset, 64, seed)
    learned = {row for step in range(5) for row in rows_of(stream.batch(step))}
    learned |= written(config, dataset.train)
    assert kept and learned and not kept & learned


@given(tested=data_configs(), learned=data_configs())
@settings(max_examples=60, deadline=None)
def test_what_another_config_learns_of_a_test_is_counted(tested: DataConfig, learned: DataConfig) -> None:
    dataset = build_dataset(learned)
    seen = written(learned, dataset.train, questions=True)
    if learned.n_train is None:
        stream = build_stream(learned.model_copy(update={"phases": ()}), dataset, 256, 0)
        end = learned.tokens.end_of_input
        seen = {row[: row.index(end) + 1] for step in range(8) for row in rows_of(stream.batch(step))}
    n_seen = len(seen & written(tested, build_dataset(tested).test, questions=True))
    found = n_learned_from(tested, learned)
    assert found >= n_seen if learned.n_train is None else found == n_seen
    assert n_learned_from(tested, tested) == 0


def data_of(**keys: Any) -> DataConfig:
    """Parity of up to five bits."""
    task = {"implementation": "parity", "problem_token": 32}
    return DataConfig.model_validate({"tasks": [task], "max_length": 5, "n_train": 12, "n_test": 4, **keys})


def test_fresh_sequences_are_all_but_those_of_their_own_test() -> None:
    fresh, other = data_of(n_train=None), data_of(seed=1)
    kept = written(fresh, build_dataset(fresh).test)
    assert n_learned_from(other, fresh) == len(written(other, build_dataset(other).test) - kept) > 0
    assert n_learned_from(data_of(seed=1, tokens={"end_of_input": 61}), fresh) == 0
    shifted = data_of(seed=1, tokens={"first_value": 1})  # 1 is the one token that both have as an input
    ones = {row for row in written(shifted, build_dataset(shifted).test, True) if set(row[1:-1]) == {1}}
    assert n_learned_from(shifted, fresh) == len(ones - written(fresh, build_dataset(fresh).test, True))


def test_a_file_whose_test_is_learned_from_is_refused(tmp_path: Path) -> None:
    config, path = data_of(), tmp_path / "sequences.npz"
    dataset = build_dataset(config)
    leaking = Dataset({**dataset.train, (0, 5): dataset.test[0, 5]}, dataset.test)
    write_dataset(config, leaking, path)
    with pytest.raises(UserError, match=r"sequences\.npz is not a file .*some of the test are learned from"):
        read_dataset(config, path)


@pytest.mark.parametrize("name", ["transfer", "transfer_frozen"])
def test_no_source_of_a_transfer_learns_from_the_test_of_its_target(name: str) -> None:
    plan = read_grid([str(CONFIGS / f"{name}.yaml")])
    for run in plan.runs:
        for parent in run.after:
            target, source = run.config, plan.by_name[parent].config
            assert isinstance(target, CompositionConfig) and isinstance(source, CompositionConfig)
            assert n_learned_from(target.data, source.data) == 0
    assert any(run.after for run in plan.runs)


def test_a_run_that_starts_from_one_that_learned_its_test_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where another run lies between them; and a run may start from weights of the same data."""

    def learn(name: str, seed: int, start: str | None = None, problem_token: int = 32) -> int:
        keys = [
            f"run_dir={tmp_path / name}",
            f"data.seed={seed}",
            f"data.tasks.0.problem_token={problem_token}",
        ]
        if start is not None:
            keys.append(f"interventions=[{{implementation: load, run: {tmp_path / start}}}]")
        small = ["training.device=cpu", "training.n_steps=2", "data.max_length=4"]
        return train.main([str(CONFIGS / "debug.yaml"), *small, *keys])

    assert learn("first", 0) == 0
    assert learn("same", 0, "first") == 0
    assert learn("another_task", 1, "first", problem_token=33) == 0
    capsys.readouterr()
    for start in ("first", "another_task"):
        assert learn("other", 1, start) == 2
        assert f"The run {tmp_path / 'first'} learns from" in capsys.readouterr().err
