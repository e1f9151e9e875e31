"""Train a model of the memory study: ``python -m apps.memory.train CONFIG [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from apps.memory.recall import build_recall
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream
from nanollama.entrypoint import run_main
from nanollama.model import build_model
from nanollama.monitor.run_folder import open_run
from nanollama.seeds import named_seed
from nanollama.training.loop import train
from nanollama.training.loss import next_token_loss


def run(config: MemoryConfig) -> None:
    """Train as the config says, examine the model, leave everything in the run folder."""
    training = config.training
    with open_run(config, config.folder, device=training.device, overwrite=config.overwrite) as opened:
        if opened.result is not None:
            return
        stream, hashes = build_stream(config)
        opened.record_data(hashes)
        weights = torch.Generator().manual_seed(named_seed(training.seed, "init"))
        model = build_model(config.model, weights)
        with build_recall(config) as recall:
            train(opened, training, model=model, stream=stream, loss_fn=next_token_loss, evaluators=[recall])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(MemoryConfig, run, argv, "Train a model to answer questions about people.")


if __name__ == "__main__":
    sys.exit(main())
