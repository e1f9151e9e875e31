"""What a model of this study reads, as a section of a config."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from apps.composition.tasks import TaskConfig
from nanollama.config import Config, ConfigPath


class TokensConfig(Config):
    """Which token means what; problem tokens are told with the tasks."""

    end_of_input: int = Field(default=62, ge=0, description="Stands after the inputs.")
    end_of_sequence: int = Field(default=63, ge=0, description="Stands after the outputs.")
    first_value: int = Field(default=0, ge=0, description="Token of the value 0; 1 is the next, and so on.")


class PhaseConfig(Config):
    """What is read from a step on; keys that are null stay as the data section has them."""

    from_step: int = Field(ge=0, description="Step from which on this holds.")
    weights: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        description="Share of each task, in the order of data.tasks; 0 leaves one out.",
    )
    min_length: int | None = Field(default=None, ge=1, description="Shortest sequence.")
    max_length: int | None = Field(default=None, ge=1, description="Longest sequence.")


class Stage(NamedTuple):
    """What is read from a step on.

    Args:
        from_step: the step.
        weights: of each task that is read, by its place in ``data.tasks``.
        lengths: numbers of inputs.
    """

    from_step: int
    weights: dict[int, float]
    lengths: range


class DataConfig(Config):
    """What is learned, and what is kept for the test."""

    tasks: tuple[TaskConfig, ...] = Field(min_length=1, description="One task, or a weighted mix.")
    tokens: TokensConfig = Field(default=TokensConfig(), description="Which token means what.")
    chain_of_thought: bool = Field(
        default=True, description="Put out every state; false puts out the last one alone."
    )
    min_length: int = Field(default=1, ge=1, description="Inputs of the shortest sequences.")
    max_length: int = Field(ge=1, le=1000, description="Inputs of the longest sequences.")
    n_train: int | None = Field(
        default=1024,
        ge=1,
        description="Distinct sequences a task and length to learn from; null draws fresh ones for every "
        "batch, none of the test among them.",
    )
    n_test: int = Field(default=1024, ge=1, description="Distinct sequences a task and length to test on.")
    seed: int = Field(default=0, ge=0, description="Of the sequences; training has its own.")
    batching: Literal["trimmed", "bucketed"] = Field(
        default="trimmed",
        description="`trimmed` pads to the longest of a batch, `bucketed` groups like lengths.",
    )
    full_batch: bool = Field(
        default=False, description="Every batch is the whole training set, of one task and without phases."
    )
    n_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Stop when as many sequences are read as in so many passes over all that any phase reads "
        "of tasks of weight above 0; training.n_steps is then the most. With unequal weights, or phases that "
        "leave some out, some are read more often than others.",
    )
    phases: tuple[PhaseConfig, ...] = Field(
        default=(), description="Curriculum: other weights or lengths from given steps on."
    )
    file: ConfigPath | None = Field(
        default=None,
        description="File (.npz) of the sequences, written when missing; null keeps them in memory.",
    )

    @property
    def lengths(self) -> range:
        """Numbers of inputs."""
        return range(self.min_length, self.max_length + 1)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What is read from step 0 on: the phases, with what the section says where they say nothing."""
        phases = self.phases
        if not phases or phases[0].from_step > 0:
            phases = (PhaseConfig(from_step=0), *phases)
        own = tuple(task.weight for task in self.tasks)
        return tuple(
            Stage(
                phase.from_step,
                {task: weight for task, weight in enumerate(phase.weights or own) if weight > 0},
                range(phase.min_length or self.min_length, (phase.max_length or self.max_length) + 1),
            )
            for phase in phases
        )

    @property
    def n_examples(self) -> int:
        """Sequences that are learned from, of all phases together; 0 where they are drawn afresh."""
        read = {(task, n) for stage in self.stages for task in stage.weights for n in stage.lengths}
        return sum(
            split_sizes(len(self.tasks[task].inputs) ** length, self.n_train, self.n_test)[0]
            for task, length in read
        )

    @property
    def max_seq_len(self) -> int:
        """Tokens a model must be able to read: problem, inputs, end of input, outputs."""
        iterates = self.chain_of_thought and any(
            task.implementation != "sparse_addition" for task in self.tasks
        )
        return 2 + self.max_length + (self.max_length if iterates else 1)

    @property
    def largest_token(self) -> int:
        """The largest token id in use."""
        tokens = self.tokens
        values = tokens.first_value + max(task.n_values for task in self.tasks) - 1
        problems = [task.problem_token for task in self.tasks]
        return max(values, tokens.end_of_input, tokens.end_of_sequence, *problems)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length = {self.min_length} is more than max_length = {self.max_length}")
        if self.file is not None and self.file.suffix != ".npz":
            raise ValueError(f"file = {self.file} must end in .npz")
        if self.n_train is None and (
            self.full_batch or self.n_epochs is not None or self.batching == "bucketed"
        ):
            raise ValueError(
                "n_train = null draws fresh sequences without end: there is no full_batch, no n_epochs and "
                "no bucketed batching"
            )
        if self.full_batch and len(self.tasks) > 1:
            raise ValueError(f"full_batch needs a single task, not {len(self.tasks)}")
        if self.full_batch and self.phases:
            raise ValueError("full_batch reads the whole training set at every step: leave phases out")
        if not any(task.weight for task in self.tasks):
            raise ValueError("every task has weight 0: there is nothing to learn")
        for task in self.tasks:
            if task.implementation == "sparse_addition" and task.n_terms > self.min_length:
                raise ValueError(
                    f"sparse_addition adds n_terms = {task.n_terms} inputs, "
                    f"more than min_length = {self.min_length}"
                )
        self._check_test()
        self._check_tokens()
        self._check_phases()
        return self

    def _check_test(self) -> None:
        for index, task in enumerate(self.tasks):
            sizes = [split_sizes(len(task.inputs) ** n, self.n_train, self.n_test) for n in self.lengths]
            if not any(n_test for _, n_test in sizes):
                raise ValueError(
                    f"tasks.{index} has too few distinct sequences of {self.min_length} to {self.max_length} "
                    "inputs to keep any for the test: a larger max_length or n_test may help"
                )

    def _check_tokens(self) -> None:
        tokens = self.tokens
        n_values = max(task.n_values for task in self.tasks)
        meanings = {tokens.first_value + value: f"value {value}" for value in range(n_values)}
        special = [("end_of_input", tokens.end_of_input), ("end_of_sequence", tokens.end_of_sequence)]
        problems = [
            (f"tasks.{index}.problem_token", task.problem_token) for index, task in enumerate(self.tasks)
        ]
        for name, token in [*special, *problems]:
            if token in meanings:
                raise ValueError(f"{name} = {token} is also the token of {meanings[token]}")
            meanings[token] = name

    def _check_phases(self) -> None:
        for before, after in pairwise(self.phases):
            if after.from_step <= before.from_step:
                raise ValueError(f"phases must follow each other: {after.from_step} after {before.from_step}")
        for phase in self.phases:
            if phase.weights is not None and len(phase.weights) != len(self.tasks):
                raise ValueError(
                    f"the phase from step {phase.from_step} has {len(phase.weights)} weights for "
                    f"{len(self.tasks)} tasks"
                )
            if phase.weights is not None and (min(phase.weights) < 0 or not any(phase.weights)):
                raise ValueError(f"the phase from step {phase.from_step} needs weights >= 0, not all 0")
            low, high = phase.min_length or self.min_length, phase.max_length or self.max_length
            if not self.min_length <= low <= high <= self.max_length:
                raise ValueError(
                    f"the phase from step {phase.from_step} has lengths {low} to {high}; "
                    f"the data have {self.min_length} to {self.max_length}"
                )


def split_sizes(n_distinct: int, n_train: int | None, n_test: int) -> tuple[int, int]:
    """How many of so many distinct sequences are learned from and tested on.

    Where there are too few, all are used, shared out in proportion. With ``n_train`` None nothing is listed
    to learn from, and at least half of the distinct sequences are left for it.
    """
    if n_train is None:
        return 0, min(n_test, n_distinct // 2)
    if n_distinct >= n_train + n_test:
        return n_train, n_test
    kept = n_distinct * n_test // (n_train + n_test)
    return n_distinct - kept, kept
