"""Train a model of the composition study: ``python -m apps.composition.train CONFIG [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from apps.composition.data import build_dataset
from apps.composition.examiner import Examiner
from apps.composition.runs import check_unlearned
from apps.composition.settings import CompositionConfig
from apps.composition.streams import build_stream, weighted_loss
from nanollama.entrypoint import run_main
from nanollama.interventions import build_interventions
from nanollama.loss import next_token_loss
from nanollama.model import build_model
from nanollama.monitor.run_folder import open_run
from nanollama.seeds import named_seed
from nanollama.training import train


def run(config: CompositionConfig) -> None:
    """Train as the config says, measure the model, leave everything in the run folder."""
    training = config.resolved_training
    with open_run(config, config.folder, device=training.device, overwrite=config.overwrite) as opened:
        if opened.result is not None:
            return
        check_unlearned(config)
        dataset = build_dataset(config.data)
        stream = build_stream(config.data, dataset, training.batch_size, named_seed(training.seed, "data"))
        model = build_model(config.model, torch.Generator().manual_seed(named_seed(training.seed, "init")))
        loss_weights = {task.problem_token: task.loss_weight for task in config.data.tasks}
        train(
            opened,
            training,
            model=model,
            stream=stream,
            loss_fn=weighted_loss(next_token_loss, loss_weights),
            evaluators=[Examiner(config.data, dataset, config.measures)],
            interventions=build_interventions(config.interventions, training.seed),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(CompositionConfig, run, argv, "Train a model to iterate a function, step by step.")


if __name__ == "__main__":
    sys.exit(main())
