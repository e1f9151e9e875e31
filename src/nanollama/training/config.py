"""How a run is trained, as a section of its config."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from nanollama.config import Config
from nanollama.errors import UserError
from nanollama.monitor.track import TrackerName
from nanollama.precision import Precision
from nanollama.training.optim import OptimizerConfig
from nanollama.wording import show, suggest

MAX_STEPS = 10**8 - 1
"""The names of checkpoints have eight digits."""
AT = " at "
"""Between the measures of a rule and its evaluations, in words."""


def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"expected auto, cpu, cuda or cuda:N, such as cuda:0, got {show(name)}")
    return name


DeviceName = Annotated[
    str,
    AfterValidator(_check_device),
    Field(description="`cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one."),
]


class CheckpointConfig(Config):
    """When to save."""

    every: int = Field(
        default=1000, ge=1, description="Steps between two checkpoints; the last step is always saved."
    )
    keep: int | None = Field(default=2, ge=1, description="Newest checkpoints to keep; null keeps all.")


class StopWhen(Config):
    """When a run is decided: measures by name, each at least its value, at so many evaluations in a row.

    ``{recall_trained: 1.0, evaluations: 3}`` is: recall of 1 at three evaluations in a row.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any] = Field(init=False)

    evaluations: int = Field(
        default=1, ge=1, description="How many in a row; each other key is a measure and its least value."
    )

    @model_validator(mode="after")
    def _check_measures(self) -> StopWhen:
        if not self.measures:
            raise ValueError("names no measure; expected such as {recall_trained: 1.0, evaluations: 3}")
        for name, least in self.measures.items():
            if isinstance(least, bool) or not isinstance(least, int | float) or not math.isfinite(least):
                raise ValueError(f"the least value of '{name}' must be a number, got {show(least)}")
        return self

    @property
    def measures(self) -> dict[str, float]:
        """The least value of each measure."""
        return dict(self.__pydantic_extra__ or {})

    def reason(self, evaluations: Sequence[Mapping[str, Any]]) -> str | None:
        """Why the rows of evaluations so far decide a run; None when they do not.

        Raises:
            UserError: a measure that is not among those evaluated.
        """
        last = evaluations[-self.evaluations :]
        for name in self.measures:
            if last and name not in last[-1]:
                known = sorted(last[-1].keys() - {"step"})
                raise UserError(
                    f"training.stop_when: no evaluator reports '{name}'{suggest(name, known)} "
                    f"(reported: {', '.join(known)})"
                )
        reached = (
            row.get(name) is not None and row[name] >= least
            for row in last
            for name, least in self.measures.items()
        )
        if len(last) < self.evaluations or not all(reached):
            return None
        return self.words

    @property
    def words(self) -> str:
        """The rule, as results tell it."""
        words = " and ".join(f"{name} >= {least:.15g}" for name, least in self.measures.items())
        return f"{words}{AT}{self.evaluations} evaluations in a row"

    def is_reason(self, words: str) -> bool:
        """Are these the words of this rule, in whatever order it names its measures?"""
        one, other = (text.rpartition(AT) for text in (words, self.words))
        return sorted(one[0].split(" and ")) == sorted(other[0].split(" and ")) and one[2] == other[2]

    def first_step(self, evaluations: Sequence[Mapping[str, Any]]) -> int | None:
        """The step after which rows of evaluations would have decided a run; None: after none of them."""
        for end, row in enumerate(evaluations, start=1):
            if self.measures.keys() <= row.keys() and self.reason(evaluations[:end]) is not None:
                return int(row["step"])
        return None


class TrainingConfig(Config):
    """How a model is trained. The study hands `batch_size` and `seed` on to the parts it builds."""

    n_steps: int = Field(ge=1, le=MAX_STEPS, description="Optimizer steps of the run.")
    batch_size: int = Field(
        default=128, ge=1, description="Examples of a step, over all processes and micro-batches."
    )
    n_accumulation: int = Field(
        default=1,
        ge=1,
        description="Micro-batches a process cuts its share of a step into: less memory, same gradient.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Of what is random in the run: initial weights, dropout and, where the study has no seed "
        "of its own for them, data and their order.",
    )
    device: DeviceName = "auto"
    precision: Literal["auto"] | Precision = Field(
        default="auto", description="Format of matrix products; `auto` is what the hardware does well."
    )
    parallel: Literal["replicated", "sharded"] = Field(
        default="replicated",
        description="What each of several processes holds: a copy of the model (DDP), a share of it (FSDP2).",
    )
    deterministic: bool = Field(
        default=False,
        description="On a GPU: only algorithms that give the same bits each time, often slower ones. A run "
        "that was stopped then ends as one that was not, as it does on a CPU anyway.",
    )
    compile: bool = Field(
        default=False, description="Compile the model: tens of seconds once, then faster steps."
    )
    n_prefetch: int = Field(default=2, ge=1, description="Batches prepared ahead of time.")
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Stop and save after so long in one process (exit code 75); null sets no limit.",
    )
    log_every: int = Field(default=10, ge=1, description="Steps between two rows of metrics.jsonl.")
    eval_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between two evaluations; null evaluates after the last step only.",
    )
    stop_when: StopWhen | None = Field(
        default=None,
        description="Stop early when the outcome is decided, such as {recall_trained: 1.0, evaluations: 3}: "
        "so much at so many evaluations in a row.",
    )
    track: tuple[TrackerName, ...] = Field(
        default=(),
        description="What shows the rows: `tensorboard`, `wandb`, `trackio`; needs the extra `track`.",
    )
    checkpoint: CheckpointConfig = Field(default=CheckpointConfig(), description="When to save.")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="The optimizer and its schedule."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TrainingConfig:
        if self.n_accumulation > self.batch_size:
            raise ValueError(
                f"n_accumulation is {self.n_accumulation}, expected at most batch_size ({self.batch_size})"
            )
        if self.stop_when is not None and self.eval_every is None:
            raise ValueError("stop_when looks at evaluations, there is none before the end: set eval_every")
        return self
