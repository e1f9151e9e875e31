"""What has to work on a GPU, as a list that takes some two minutes: ``nanollama doctor --gpu``.

A check takes the device and returns what it found; it raises where something is not as it must be. The same
list is what the tests marked ``gpu`` run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from nanollama.config import Config
from nanollama.data.batch import Batch, collate
from nanollama.dialogs.generate import generate, generate_one
from nanollama.distributed import World
from nanollama.errors import UserError
from nanollama.model import ModelConfig, build_model
from nanollama.model.mixers import MIXERS
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import MODEL
from nanollama.monitor.run_folder import open_run
from nanollama.precision import Precision, choose_precision, precision_context
from nanollama.tokenizer import ByteTokenizer, Message
from nanollama.training.config import CheckpointConfig, OptimizerConfig, TrainingConfig
from nanollama.training.learner import Learner, LossFn
from nanollama.training.loop import train
from nanollama.training.loss import next_token_loss

Check = Callable[[torch.device], str]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
Parallel = Literal["replicated", "sharded"]
N_STEPS = 60
MODULE = "nanollama.cli.doctor_gpu"
REPORT = "Please report what failed, with all that is printed here, where the project keeps its issues."


class GpuConfig(Config):
    """Of the runs that are made here."""

    training: TrainingConfig = Field(description="How they train.")


class Documents:
    """Batches of random documents, of which some tokens carry loss."""

    def __init__(self, row_len: int | None = None) -> None:
        self.row_len = row_len

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.data.stream.Stream`."""
        generator = np.random.default_rng(step)
        ids = [generator.integers(1, 50, length) for length in generator.integers(5, 60, 16)]
        masks = [generator.random(len(row)) > 0.4 for row in ids]
        for mask in masks:
            mask[1] = True
        return collate(ids[rank::world_size], masks[rank::world_size], self.row_len)


def model_of(name: str, vocab_size: int = 50) -> LanguageModel:
    """A small model whose blocks are mixed in this way."""
    sizes = {"d_model": 64, "n_layers": 2, "n_heads": 2, "vocab_size": vocab_size, "max_seq_len": 128}
    config = ModelConfig.model_validate({"implementation": name, **sizes})
    return build_model(config, torch.Generator().manual_seed(0))


def loss_and_gradients(model: LanguageModel, batch: Batch) -> list[Tensor]:
    """On the device of the model; returned on the CPU."""
    model.zero_grad()
    loss = next_token_loss(model, batch.to(model.device))
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [loss.detach().cpu(), *(gradient.cpu() for gradient in gradients)]


def check_products(device: torch.device) -> str:
    """How fast are matrix products?"""
    precision = choose_precision("auto", device)
    x = torch.randn(4096, 4096, device=device)
    with precision_context(precision, device):
        (x @ x).sum().item()
        begun = time.perf_counter()
        for _ in range(10):
            y = x @ x
        y.sum().item()
    return f"{10 * 2 * 4096**3 / (time.perf_counter() - begun) / 1e12:.0f} TFLOP/s in {precision}"


def check_same_as_cpu(device: torch.device) -> str:
    """Do losses and gradients equal those of the CPU, each document in a row of its own and packed?"""
    worst = 0.0
    for name in MIXERS:
        for row_len in (None, 80):
            batch = Documents(row_len).batch(0)
            expected = loss_and_gradients(model_of(name), batch)
            found = loss_and_gradients(model_of(name).to(device), batch)
            for one, other in zip(found, expected, strict=True):
                error = float((one - other).norm() / other.norm().clamp(min=1e-3))
                worst = max(worst, error)
                if error > 1e-3:
                    raise AssertionError(f"{name}, packed={row_len is not None}: off by {error:.1e}")
    return f"at most {worst:.0e} apart, {len(MIXERS)} mixers"


def check_learning(device: torch.device) -> str:
    """Does every mixer learn a batch by heart in every precision?"""
    ends = []
    for precision in PRECISIONS:
        for name in MIXERS:
            losses = learn(model_of(name), device, precision)
            if not losses[-1] < 0.5 * losses[0]:
                raise AssertionError(
                    f"{name} in {precision}: a loss of {losses[0]:.3g} became {losses[-1]:.3g}"
                )
            ends.append(losses[-1] / losses[0])
    return f"in {', '.join(PRECISIONS)} the loss of a batch falls to {max(ends):.2f} of what it was, or less"


def learn(
    model: LanguageModel, device: torch.device, precision: Precision, compile_model: bool = False
) -> list[float]:
    """Losses per token of steps on one batch."""
    config = OptimizerConfig(learning_rate=1e-2)
    learner = Learner(
        model, next_token_loss, config, World(device), precision=precision, compile_model=compile_model
    )
    batch, losses = Documents(80).batch(0), []
    for _ in range(N_STEPS):
        sums = learner.backward(batch)
        learner.clip()
        learner.update(config.learning_rate)
        losses.append(sums.loss_nats / sums.n_loss_tokens)
    return losses


def check_compile(device: torch.device) -> str:
    """Does a compiled model learn as a plain one does?"""
    plain, compiled = (
        learn(model_of("transformer"), device, "float32", compile_model=flag) for flag in (False, True)
    )
    error = abs(plain[0] - compiled[0]) / plain[0]
    if error > 1e-3 or not compiled[-1] < 0.5 * compiled[0]:
        raise AssertionError(
            f"plain {plain[0]:.4f} to {plain[-1]:.4f}, compiled {compiled[0]:.4f} to {compiled[-1]:.4f}"
        )
    return f"first losses {error:.0e} apart"


@torch.inference_mode()
def check_decoding(device: torch.device) -> str:
    """Is what models write many at a time, with a state, what they write without one?"""
    tokenizer = ByteTokenizer(("user", "assistant"))
    prompts = [
        tokenizer.encode_prompt([Message("user", text)])
        for text in ("a", "who is she", "where was she born?")
    ]
    for name in MIXERS:
        model = model_of(name, tokenizer.vocab_size).to(device).eval()
        together = generate(model, tokenizer, prompts, max_new_tokens=40)
        alone = [generate_one(model, tokenizer, prompt, max_new_tokens=40) for prompt in prompts]
        if [one.ids for one in together] != [one.ids for one in alone]:
            raise AssertionError(f"{name}: rows decoded together differ from rows decoded alone")
    return f"{len(MIXERS)} mixers, 3 dialogs each"


def check_resume(device: torch.device) -> str:
    """Does a run that was stopped end with the bits of one that was not, with training.deterministic=true?"""
    for precision in PRECISIONS:
        for name in MIXERS:
            with tempfile.TemporaryDirectory() as folder:
                config = GpuConfig(training=training_of(device, precision))
                whole = train_in(Path(folder, "whole"), name, config)
                with suppress(Stopped):
                    train_in(Path(folder, "cut"), name, config, StopAt(5))
                cut = train_in(Path(folder, "cut"), name, config)
            if not all(torch.equal(one, other) for one, other in zip(whole, cut, strict=True)):
                raise AssertionError(f"{name} in {precision}: other weights where it was stopped")
    return f"bitwise in {', '.join(PRECISIONS)}"


def check_processes(device: torch.device) -> str:
    """Do two processes learn what one learns, each with a copy of the model, and each with a share of it?"""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return "not checked: that takes two GPUs"
    with tempfile.TemporaryDirectory() as folder:
        expected = train_in(
            Path(folder, "one"), "transformer", GpuConfig(training=training_of(device, "float32"))
        )
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        for parallel in ("replicated", "sharded"):
            command = [*start, "-m", MODULE, device.type, parallel, str(Path(folder, parallel))]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise AssertionError(f"{parallel}: {done.stderr.strip()[-2000:]}")
            for one, other in zip(weights_in(Path(folder, parallel)), expected, strict=True):
                if not (one - other).norm() < 0.02 * other.norm():  # they sum in another order
                    raise AssertionError(f"{parallel}: other weights")
    return "two processes, replicated and sharded, as one"


def training_of(
    device: torch.device, precision: Precision, parallel: Parallel = "replicated"
) -> TrainingConfig:
    """Eight steps, the same bits each time."""
    return TrainingConfig(
        n_steps=8,
        batch_size=16,
        device=device.type,
        precision=precision,
        parallel=parallel,
        deterministic=True,
        checkpoint=CheckpointConfig(every=2),
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )


class Stopped(Exception):
    """By `StopAt`."""


class StopAt:
    """The loss of a run that is interrupted in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.n_left = step

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.n_left -= 1
        if self.n_left == 0:
            raise Stopped
        return next_token_loss(model, batch)


def train_in(folder: Path, name: str, config: GpuConfig, loss_fn: LossFn = next_token_loss) -> list[Tensor]:
    """The weights that a run of this folder ends with, as its newest checkpoint has them; it says nothing."""
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),
        open_run(config, folder, device=config.training.device) as run,
    ):
        train(run, config.training, model=model_of(name), stream=Documents(80), loss_fn=loss_fn)
    return weights_in(folder)


def weights_in(folder: Path) -> list[Tensor]:
    """Those of the newest checkpoint of a run, in the order of their names."""
    newest = max((folder / "checkpoints").iterdir())
    return [weight for _, weight in sorted(load_file(newest / MODEL).items())]


CHECKS: dict[str, Check] = {
    "matrix products": check_products,
    "losses and gradients as on the CPU": check_same_as_cpu,
    "learning": check_learning,
    "compiled": check_compile,
    "decoding": check_decoding,
    "stopped and gone on": check_resume,
    "two processes": check_processes,
}


def examine_gpu() -> int:
    """Print what each check finds on the first GPU; the exit code is 1 where one failed.

    Raises:
        UserError: torch finds no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} finds no CUDA device here: `nanollama doctor` says what there is, "
            "and `python -m torch.utils.collect_env` what torch was built for."
        )
    device = torch.device("cuda", 0)
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name(device)}")
    n_failed = 0
    for name, check in CHECKS.items():
        begun = time.perf_counter()
        try:
            finding, word = check(device), "ok"
        except Exception as error:
            finding, word = f"{type(error).__name__}: {error}", "FAILED"
            n_failed += 1
        print(f"{word:<7} {name:<36} {time.perf_counter() - begun:5.1f} s  {finding}", flush=True)
    print(REPORT if n_failed else "all as it must be")
    return 1 if n_failed else 0


def main(argv: Sequence[str]) -> None:
    """One of the processes of `check_processes`: ``DEVICE replicated|sharded FOLDER``."""
    device, parallel, folder = argv
    config = GpuConfig(training=training_of(torch.device(device), "float32", cast(Parallel, parallel)))
    train_in(Path(folder), "transformer", config)


if __name__ == "__main__":
    main(sys.argv[1:])
