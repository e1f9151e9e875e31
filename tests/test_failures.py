"""Processes that train together: what is said of one that ends, or that does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from torch import Tensor, nn

import nanollama.distributed
from nanollama.data.batch import Batch
from nanollama.entrypoint import guard
from nanollama.failures import explain
from nanollama.training.learner import LossFn
from tests.toy_training import run_toy, toy_config, toy_loss

ROOT = Path(__file__).parents[1]
SAID = {
    "ends": "Another process of this run has ended: look for what it said; what was saved is there",
    "hangs": "Another process of this run has not answered for 3 seconds: look whether it still works;",
}


def loss_of_rank_one(happens: str) -> LossFn:
    """The toy's loss; in its third step, something happens to rank 1."""
    n_calls = 0

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 6 and os.environ["RANK"] == "1":
            if happens == "ends":
                raise MemoryError
            time.sleep(10)
        return toy_loss(model, batch)

    return loss


@pytest.mark.slow
@pytest.mark.parametrize("happens", SAID)
def test_a_process_that_is_lost_is_a_sentence_of_the_others(happens: str, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.test_failures", str(tmp_path), happens],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    ours = done.stderr.split("torch/distributed/elastic")[0]  # then torchrun speaks
    assert SAID[happens] in done.stderr and "Traceback" not in ours, done.stderr
    assert happens == "hangs" or "Out of memory: let" in ours


def test_a_bug_is_not_explained_away() -> None:
    assert explain(RuntimeError("shapes do not fit")) is None
    assert explain(ValueError("Connection closed by peer")) is None


def test_hours_of_silence_are_told_in_full() -> None:
    said = explain(RuntimeError("Timed out waiting 7200000ms for recv operation to complete"))
    assert said is not None and "for 7,200 seconds" in said


if __name__ == "__main__":
    if sys.argv[2] == "hangs":
        nanollama.distributed.TIMEOUT = timedelta(seconds=3)

    def train() -> None:
        with nanollama.distributed.open_world("cpu"):
            run_toy(toy_config(Path(sys.argv[1])), loss_fn=loss_of_rank_one(sys.argv[2]))

    sys.exit(guard(train))
