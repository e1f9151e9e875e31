"""The tasks: a state that a sequence of inputs drives, and a sum over some of the inputs.

A task turns inputs x_1 .. x_L into outputs. Iterations put out every state, s_1 = x_1 and
s_t = F(s_{t-1}, x_t); with parity and inputs 1 0 1 1 the outputs are 1 1 0 1, and without chain of thought
the last one, 1, alone. Values are small integers; which token stands for a value is told elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from nanollama.config import Config


class Task(Config):
    """What all tasks have; a subclass says how inputs become outputs."""

    problem_token: int = Field(ge=0, description="Token that opens a sequence of this task.")
    weight: float = Field(default=1.0, ge=0, description="Share of the rows of a batch, on any scale.")
    loss_weight: float = Field(default=1.0, gt=0, description="Factor of the loss of its sequences.")

    @property
    def inputs(self) -> range:
        """Values that an input may have."""
        raise NotImplementedError

    @property
    def n_values(self) -> int:
        """One more than the largest value of an input or an output."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Name of the set of its possible inputs, which tasks may share."""
        return f"{self.inputs.start}..{self.inputs.stop - 1}"

    def outputs(self, inputs: np.ndarray, chain_of_thought: bool) -> np.ndarray:
        """Outputs (n, n_outputs) of inputs (n, L), both int64."""
        raise NotImplementedError


class Iteration(Task):
    """A task whose outputs are the states s_t = F(s_{t-1}, x_t), with s_1 = x_1."""

    def step(self, state: np.ndarray, value: np.ndarray) -> np.ndarray:
        """F, of any shape."""
        raise NotImplementedError

    def transitions(self) -> np.ndarray:
        """F as a table (n_values, n_values): next state by state and input; -1 where x is no input."""
        table = np.full((self.n_values, self.n_values), -1)
        for value in self.inputs:
            states = np.arange(self.n_values)
            table[:, value] = self.step(states, np.full_like(states, value))
        return table

    def outputs(self, inputs: np.ndarray, chain_of_thought: bool) -> np.ndarray:
        states = [inputs[:, 0]]
        for column in inputs.T[1:]:
            states.append(self.step(states[-1], column))
        return np.stack(states if chain_of_thought else states[-1:], axis=1)


class Binary(Iteration):
    """An iteration of zeros and ones."""

    @property
    def inputs(self) -> range:
        return range(2)

    @property
    def n_values(self) -> int:
        return 2


class Copy(Binary):
    """Binary copy: s_t = x_t."""

    implementation: Literal["copy"] = Field(description="Which task this is.")

    def step(self, state: np.ndarray, value: np.ndarray) -> np.ndarray:
        return value


class Parity(Binary):
    """Parity: s_t = s_{t-1} + x_t mod 2."""

    implementation: Literal["parity"] = Field(description="Which task this is.")

    def step(self, state: np.ndarray, value: np.ndarray) -> np.ndarray:
        return (state + value) % 2


class Polynomial(Iteration):
    """Polynomial iteration: s_t = sum of c s_{t-1}^i x_t^j over terms (c, i, j), mod p; x in 1 .. p-1."""

    implementation: Literal["polynomial"] = Field(description="Which task this is.")
    modulus: int = Field(default=11, ge=2, le=1000, description="p.")
    terms: tuple[tuple[int, int, int], ...] = Field(
        default=((1, 1, 1), (1, 0, 0)),
        min_length=1,
        description="(c, i, j) for each term c s^i x^j; the default is s x + 1.",
    )

    @model_validator(mode="after")
    def _check_powers(self) -> Polynomial:
        for term in self.terms:
            if not (0 <= term[1] <= 9 and 0 <= term[2] <= 9):
                raise ValueError(f"a term is (c, i, j) for c s^i x^j with powers 0 to 9, got {list(term)}")
        return self

    @property
    def inputs(self) -> range:
        return range(1, self.modulus)

    @property
    def n_values(self) -> int:
        return self.modulus

    def step(self, state: np.ndarray, value: np.ndarray) -> np.ndarray:
        total = np.zeros_like(state)
        for factor, i, j in self.terms:
            term = np.full_like(state, factor % self.modulus)
            for base in [state] * i + [value] * j:
                term = term * base % self.modulus
            total = (total + term) % self.modulus
        return total


class Table(Iteration):
    """Any F: the next state by state (row) and input (column), from 0."""

    implementation: Literal["table"] = Field(description="Which task this is.")
    table: tuple[tuple[int, ...], ...] = Field(min_length=1, description="F(s, x) in row s, column x.")

    @model_validator(mode="after")
    def _check_table(self) -> Table:
        width = len(self.table[0])
        for number, row in enumerate(self.table):
            if len(row) != width:
                raise ValueError(f"row {number} of the table has {len(row)} columns, row 0 has {width}")
            for state in row:
                if not 0 <= state < len(self.table):
                    raise ValueError(
                        f"row {number} of the table leads to state {state}, "
                        f"of states 0 to {len(self.table) - 1}"
                    )
        if not 1 <= width <= len(self.table):
            raise ValueError(
                f"the first state is the first input, so a table of {len(self.table)} rows has at least one "
                f"and at most {len(self.table)} columns, not {width}"
            )
        return self

    @property
    def inputs(self) -> range:
        return range(len(self.table[0]))

    @property
    def n_values(self) -> int:
        return len(self.table)

    def step(self, state: np.ndarray, value: np.ndarray) -> np.ndarray:
        return np.array(self.table)[state, value]


class SparseAddition(Task):
    """Sparse modular addition (arXiv 2410.24050): the sum of the first inputs mod p, the others are noise."""

    implementation: Literal["sparse_addition"] = Field(description="Which task this is.")
    modulus: int = Field(default=2, ge=2, le=1000, description="p.")
    n_terms: int = Field(default=3, ge=1, description="How many of the first inputs are added.")

    @property
    def inputs(self) -> range:
        return range(self.modulus)

    @property
    def n_values(self) -> int:
        return self.modulus

    def outputs(self, inputs: np.ndarray, chain_of_thought: bool) -> np.ndarray:
        return inputs[:, : self.n_terms].sum(axis=1, keepdims=True) % self.modulus


TaskConfig = Annotated[
    Copy | Parity | Polynomial | Table | SparseAddition, Field(discriminator="implementation")
]
