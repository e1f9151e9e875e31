"""What the loop refuses, in a sentence, where it would leave something undone or fail later on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from nanollama.config import Config
from nanollama.data.batch import IGNORE, Batch
from nanollama.distributed import World
from nanollama.errors import UserError
from nanollama.measures import TAKEN
from nanollama.training.config import TrainingConfig
from nanollama.training.interventions import Intervention


def check_processes(config: TrainingConfig, world: World, interventions: Sequence[Intervention]) -> None:
    """Refuse what so many processes cannot do.

    Raises:
        UserError: too few examples for each, or interventions in a model that is shared out.
    """
    if config.batch_size < world.world_size * config.n_accumulation:
        raise UserError(
            f"training.batch_size = {config.batch_size} is too small: expected an example for each of "
            f"n_accumulation = {config.n_accumulation} micro-batches in each of {world.world_size} processes."
        )
    if interventions and config.parallel == "sharded" and world.world_size > 1:
        # They change the plain model, and it is a copy of it that learns.
        raise UserError(
            "interventions cannot be done to a model that is shared out over several processes: set "
            "training.parallel=replicated, or train in one process."
        )


def check_interventions_given(config: Config, interventions: Sequence[Intervention]) -> None:
    """Refuse to leave out all interventions of the run's config: its folder would tell that they were done.

    Raises:
        UserError: it has some, and none are given.
    """
    if getattr(config, "interventions", ()) and not interventions:
        raise UserError(
            "The config of the run has interventions, and `train` was given none, so they would not be done: "
            "call `nanollama.api.train_run`, which does all that a config says, or give `interventions`."
        )


def check_token_ids(batch: Batch, model: nn.Module) -> None:
    """Refuse a batch with token ids that the model does not have.

    Raises:
        UserError: it has one.
    """
    vocab_size = getattr(model, "vocab_size", None)
    if vocab_size is None:
        return
    targets = batch.targets[batch.targets != IGNORE]
    for ids, where in ((batch.input_ids, "inputs"), (targets, "targets")):
        if outside := ids[(ids < 0) | (ids >= vocab_size)][:1].tolist():
            raise UserError(
                f"The first batch has the token id {outside[0]} in its {where}, and the model has a "
                f"vocab_size of {vocab_size}: expected ids from 0 to {vocab_size - 1}; enlarge "
                "model.vocab_size, or look after the stream."
            )


def check_measures(measures: Any, row: Mapping[str, Any], evaluator: object, config: Config) -> None:
    """Refuse what an evaluator returned where it cannot stand in a row of evaluations, or would mislead.

    Args:
        measures: what it returned.
        row: what others before it did, and the step.
        evaluator: for the message.
        config: of the run.

    Raises:
        UserError: it is not numbers by name, or a name is that of something else.
    """
    who = f"The evaluator {type(evaluator).__name__}"
    if not isinstance(measures, Mapping):
        raise UserError(
            f"{who} returned a {type(measures).__name__}: expected numbers by name, dict[str, float]."
        )
    for name, value in measures.items():
        if value is not None and not isinstance(value, int | float):
            raise UserError(
                f"{who} reports '{name}' as a {type(value).__name__}: expected a float, such as float(value)."
            )
    if taken := sorted(measures.keys() & (TAKEN | _plain_keys(config))):
        raise UserError(
            f"{who} reports '{taken[0]}', which is already the name of something that a run tells beside its "
            f"measures: choose another name, with what it is of and its unit, such as 'test_{taken[0]}_nats'."
        )
    if twice := sorted(row.keys() & measures.keys()):
        raise UserError(f"Two evaluators report {', '.join(twice)}: each needs its own name.")


def _plain_keys(config: Config) -> frozenset[str]:
    """Keys of a config that have a single value: a grid that varies one has a column of its name."""
    values = {name: getattr(config, name) for name in type(config).model_fields}
    return frozenset(name for name, value in values.items() if isinstance(value, bool | int | float | str))
