"""A run of training from its config alone: what the ``train`` of every study does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch

from nanollama.data.stream import Stream
from nanollama.model import build_model
from nanollama.monitor.run_folder import open_run
from nanollama.seeds import named_seed
from nanollama.training.interventions import build_interventions
from nanollama.training.learner import LossFn
from nanollama.training.loop import Evaluator, train
from nanollama.training.loss import next_token_loss
from nanollama.training.run_config import TrainingRunConfig

R = TypeVar("R", bound=TrainingRunConfig)


@runtime_checkable
class OnExamples(Protocol):
    """An evaluator whose measures are of some examples, such as held-out ones: all of a run on the same.

    Attributes:
        measured: hashes of them, by name, such as that of their split.
    """

    measured: Mapping[str, str]


@dataclass(frozen=True)
class Parts:
    """What a study brings to a run.

    Args:
        stream: batches by step.
        data_hashes: of what is learned from, by name: a run goes on with the data that it began with, or not
            at all.
        evaluators: what is measured while the model learns; one with hashes of what it measures on (see
            `OnExamples`) goes on with that or not at all.
        loss_fn: summed loss of a batch.
        spell: how a token is written for people to read, for ``nanollama data show``.
    """

    stream: Stream
    data_hashes: Mapping[str, str]
    evaluators: Sequence[Evaluator] = ()
    loss_fn: LossFn = next_token_loss
    spell: Callable[[int], str] = str

    @property
    def measured(self) -> dict[str, str]:
        """Hashes of the examples that the evaluators measure on, by name, of those that tell them."""
        told = [each.measured for each in self.evaluators if isinstance(each, OnExamples)]
        return {name: sha256 for hashes in told for name, sha256 in hashes.items()}


def train_run(config: R, build: Callable[[R], AbstractContextManager[Parts]]) -> None:
    """Train as a config says and leave everything in its run folder; a finished run is left as it is.

    Args:
        config: of the run.
        build: makes the study's parts; what it opens is closed when the run ends.

    Raises:
        Preempted: a signal or ``max_minutes`` ended it early; everything is saved.
        UserError: the folder, the data or the model cannot be used.
    """
    training = config.resolved_training
    with open_run(config, config.folder, device=training.device, overwrite=config.overwrite) as run:
        if run.result is not None:
            return
        with build(config) as parts:
            run.record_data(parts.data_hashes)
            run.record_measured(parts.measured)
            weights = torch.Generator().manual_seed(named_seed(training.seed, "init"))
            train(
                run,
                training,
                model=build_model(config.model, weights),
                stream=parts.stream,
                loss_fn=parts.loss_fn,
                evaluators=parts.evaluators,
                interventions=build_interventions(config.interventions, training.seed),
            )
