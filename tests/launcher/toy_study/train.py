"""Train the toy: ``python -m apps.toy.train CONFIG [key=value ...]``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from apps.toy.settings import LaunchedToyConfig

from nanollama.data.batch import Batch
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.monitor.run_folder import open_run
from nanollama.training.interventions import build_interventions
from nanollama.training.loop import train
from tests.toy_training import ToyEvaluator, ToyModel, ToyStream, toy_loss


class SlowStream(ToyStream):
    """A stream that takes its time."""

    def __init__(self, batch_size: int, seed: int, seconds: float) -> None:
        super().__init__(batch_size, seed)
        self.seconds = seconds

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        time.sleep(self.seconds)
        return super().batch(step, rank, world_size)


def misbehave(ending: str) -> None:
    """End as no run should."""
    print("about to end", flush=True)
    if ending == "raise":
        raise RuntimeError("the toy is broken")
    if ending == "refuse":
        raise UserError("The toy does not want to.")
    if ending == "exit":
        os._exit(7)
    if ending == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def run(config: LaunchedToyConfig) -> None:
    """Train as the config says."""
    training = config.training
    with open_run(config, config.folder, device="cpu", overwrite=config.overwrite) as opened:
        misbehave(config.ending)
        train(
            opened,
            training,
            model=ToyModel(training.seed, config.dropout),
            stream=SlowStream(training.batch_size, training.seed, config.seconds_a_step),
            loss_fn=toy_loss,
            evaluators=[ToyEvaluator()],
            interventions=build_interventions(config.interventions, training.seed),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(LaunchedToyConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
