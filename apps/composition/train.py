"""Train a model of the composition study: ``python -m apps.composition.train CONFIG [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from apps.composition.data import build_dataset, sequences_hash, token_names
from apps.composition.examiner import Examiner
from apps.composition.held_out import check_unlearned
from apps.composition.settings import CompositionConfig
from apps.composition.streams import build_stream, weighted_loss
from nanollama.entrypoint import run_main
from nanollama.seeds import named_seed
from nanollama.training.run import Parts, train_run


@contextmanager
def build_parts(config: CompositionConfig) -> Iterator[Parts]:
    """The sequences that are learned, with the weights of their tasks, and what is measured."""
    check_unlearned(config)
    data, training = config.data, config.resolved_training
    dataset, names = build_dataset(data), token_names(data)
    yield Parts(
        stream=build_stream(data, dataset, training.batch_size, named_seed(training.seed, "data")),
        data_hashes={"sequences": sequences_hash(data, dataset)},
        evaluators=[Examiner(data, dataset, config.measures)],
        loss_fn=weighted_loss({task.problem_token: task.loss_weight for task in data.tasks}),
        spell=lambda token: names.get(token, str(token)),
    )


def run(config: CompositionConfig) -> None:
    """Train as the config says, measure the model, leave everything in the run folder."""
    train_run(config, build_parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(CompositionConfig, run, argv, "Train a model to iterate a function, step by step.")


if __name__ == "__main__":
    sys.exit(main())
