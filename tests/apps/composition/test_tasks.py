"""The tasks against their definitions, written out one value at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from apps.composition.tasks import Copy, Iteration, Parity, Polynomial, SparseAddition, Table, TaskConfig

COPY = Copy(implementation="copy", problem_token=40)
PARITY = Parity(implementation="parity", problem_token=41)
POLYNOMIAL = Polynomial(implementation="polynomial", problem_token=42)
XOR = Table(implementation="table", problem_token=43, table=((0, 1), (1, 0)))


def states(task: Iteration, inputs: list[int]) -> list[int]:
    return task.outputs(np.array([inputs]), chain_of_thought=True)[0].tolist()


def test_worked_examples() -> None:
    assert states(COPY, [1, 0, 1, 1]) == [1, 0, 1, 1]
    assert states(PARITY, [1, 0, 1, 1]) == [1, 1, 0, 1]
    assert states(POLYNOMIAL, [7, 3, 10, 1]) == [7, 0, 1, 2]  # 7; 21 + 1 = 0; 0 + 1; 1 + 1, mod 11


def test_polynomial_is_evaluated_term_by_term() -> None:
    task = Polynomial(
        implementation="polynomial", problem_token=42, modulus=7, terms=((3, 2, 0), (-1, 1, 3), (5, 0, 0))
    )
    for state, value in itertools.product(range(7), range(1, 7)):
        expected = (3 * state**2 - state * value**3 + 5) % 7
        assert int(task.step(np.array(state), np.array(value))) == expected
        assert task.transitions()[state, value] == expected
    assert (task.transitions()[:, 0] == -1).all(), "0 is no input"


def test_a_table_is_the_function_it_lists() -> None:
    for inputs in itertools.product(range(2), repeat=4):
        assert states(XOR, list(inputs)) == states(PARITY, list(inputs))


@pytest.mark.parametrize("task", [COPY, PARITY, POLYNOMIAL, XOR])
def test_without_chain_of_thought_only_the_last_state_is_put_out(task: Iteration) -> None:
    values = list(task.inputs)
    inputs = np.random.default_rng(0).choice(values, size=(20, 6))
    whole = task.outputs(inputs, chain_of_thought=True)
    assert whole.shape == (20, 6)
    assert (task.outputs(inputs, chain_of_thought=False) == whole[:, -1:]).all()
    assert inputs.max() < task.n_values and whole.max() < task.n_values


def test_sparse_addition_adds_the_first_inputs_and_nothing_else() -> None:
    task = SparseAddition(implementation="sparse_addition", problem_token=44, modulus=3, n_terms=2)
    inputs = np.array([[2, 2, 0], [2, 2, 1], [1, 2, 2]])
    for chain_of_thought in (True, False):
        assert task.outputs(inputs, chain_of_thought).tolist() == [[1], [1], [0]]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            {"implementation": "table", "table": [[0, 1], [1]]},
            "row 1 of the table has 1 columns, row 0 has 2",
        ),
        ({"implementation": "table", "table": [[0, 2], [1, 0]]}, "leads to state 2, of states 0 to 1"),
        ({"implementation": "table", "table": [[0, 0]]}, "a table of 1 rows has at least one and at most 1"),
        ({"implementation": "polynomial", "terms": [[1, -1, 0]]}, r"powers 0 to 9, got \[1, -1, 0\]"),
    ],
)
def test_impossible_tasks_are_refused(task: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(TaskConfig).validate_python({"problem_token": 50, **task})
