"""The one training loop.

A study brings a model, a stream of batches, a loss and evaluators; the loop brings everything else. Its state is one
integer, the number of steps done: batches, learning rates and dropout masks are functions of it, so a run that was
stopped anywhere ends with the same bits as one that was not. Changes of the model or the optimizer at a given step
belong at the top of the loop's body, and their state beside the optimizer's in the checkpoint.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import nn

from nanollama.config import Config
from nanollama.data.batch import Batch
from nanollama.data.prefetch import Prefetcher
from nanollama.data.stream import Stream
from nanollama.errors import Preempted
from nanollama.learner import Learner, LossFn, StepSums
from nanollama.monitor.checkpoint import load_training
from nanollama.monitor.preemption import Preemption
from nanollama.monitor.profiler import Profiler, training_flops
from nanollama.monitor.run_folder import Run, TrainResult
from nanollama.optim import OptimizerConfig, learning_rate
from nanollama.precision import Precision, choose_precision
from nanollama.seeds import named_seed

logger = logging.getLogger(__name__)


class CheckpointConfig(Config):
    """When to save."""

    every: int = Field(
        default=1000, ge=1, description="Steps between two checkpoints; the last step is always saved."
    )
    keep: int | None = Field(default=2, ge=1, description="Newest checkpoints to keep; null keeps all.")


class TrainingConfig(Config):
    """How a model is trained. The study hands `batch_size` and `seed` on to the stream and the model it builds."""

    n_steps: int = Field(ge=1, description="Optimizer steps of the run.")
    batch_size: int = Field(
        default=128, ge=1, description="Examples of a step, over all processes and micro-batches."
    )
    n_accumulation: int = Field(
        default=1,
        ge=1,
        description="Micro-batches a process cuts its share of a step into: less memory, same gradient.",
    )
    seed: int = Field(
        default=0, ge=0, description="Of all that is random in the run: initial weights, data order, dropout."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="`cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one.",
    )
    precision: Literal["auto"] | Precision = Field(
        default="auto", description="Format of matrix products; `auto` is what the hardware does well."
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
    checkpoint: CheckpointConfig = Field(default=CheckpointConfig(), description="When to save.")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="The optimizer and its schedule."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TrainingConfig:
        if self.optimizer.warmup_steps > self.n_steps:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, expected at most n_steps ({self.n_steps})"
            )
        if self.n_accumulation > self.batch_size:
            raise ValueError(
                f"n_accumulation is {self.n_accumulation}, expected at most batch_size ({self.batch_size})"
            )
        return self


class Evaluator(Protocol):
    """Something to measure while a model is trained."""

    def evaluate(self, model: nn.Module, step: int) -> dict[str, float]:
        """Measures by name, with their unit in it; a pure function of the model's weights and the step.

        Called in the process of rank 0 alone, without gradients, on the plain model in evaluation mode.
        """
        ...


class Diverged(RuntimeError):
    """A loss or a gradient is not finite. No optimizer step was taken with it."""


@dataclass
class TrainState:
    """What the loop knows beside weights and optimizer; saved with every checkpoint.

    Args:
        step: optimizer steps done.
        loss_nats: summed over the loss tokens since the last row of metrics.
        n_loss_tokens: how many these were.
        n_tokens_seen: input tokens trained on, padding not counted.
        n_examples_seen: examples trained on.
        n_skipped_steps: steps without an update because a float16 gradient overflowed.
    """

    step: int = 0
    loss_nats: float = 0.0
    n_loss_tokens: int = 0
    n_tokens_seen: int = 0
    n_examples_seen: int = 0
    n_skipped_steps: int = 0

    def add(self, sums: StepSums, skipped: bool) -> None:
        """Count one more step."""
        self.step += 1
        self.loss_nats += sums.loss_nats
        self.n_loss_tokens += sums.n_loss_tokens
        self.n_tokens_seen += sums.n_tokens
        self.n_examples_seen += sums.n_examples
        self.n_skipped_steps += skipped


def train(
    run: Run,
    config: TrainingConfig,
    *,
    model: nn.Module,
    stream: Stream,
    loss_fn: LossFn,
    evaluators: Sequence[Evaluator] = (),
) -> TrainResult:
    """Train a model to its last step, going on from the newest intact checkpoint of the run.

    Args:
        run: the open run folder; a finished one is left as it is.
        config: how to train.
        model: with its initial weights; moved to the run's device and changed in place.
        stream: batches by step, counted from 0.
        loss_fn: summed loss of a batch.
        evaluators: asked every ``eval_every`` steps and after the last; their measures share one row.

    Returns:
        the result, also written to ``result.json``.

    Raises:
        Preempted: a signal or ``max_minutes`` ended it early; everything is saved.
        Diverged: the loss or the gradient was not finite.
    """
    if run.result is not None:
        return run.result
    with ExitStack() as stack:
        preemption = stack.enter_context(Preemption(config.max_minutes))
        device = run.world.device
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        loop = Loop(run, config, model, loss_fn, evaluators)
        loop.resume()
        state = loop.state
        batches = stack.enter_context(
            Prefetcher(
                stream, state.step, config.n_steps, config.n_prefetch, run.world.rank, run.world.world_size
            )
        )
        progress = stack.enter_context(run.log.progress(config.n_steps))
        loop.evaluate()
        while state.step < config.n_steps:
            with loop.profiler.phase("data"):
                batch = batches.next()
            loop.take_step(batch)
            loop.log()
            progress.update(state.step)
            stop = run.world.any(preemption.reason is not None)
            if stop or state.step % config.checkpoint.every == 0 or state.step == config.n_steps:
                loop.save()
            if stop:
                loop.finish("preempted")
                raise Preempted(
                    f"Stopped after step {state.step} of {config.n_steps} "
                    f"({preemption.reason or 'another process was asked to'}); the state is saved in {run.folder}: "
                    "run the same command again, without overwrite=true, to go on."
                )
            loop.evaluate()
        return loop.finish("finished")


class Loop:
    """The parts of a run and what is done with them at each step; `train` says when.

    Args: those of `train`.
    """

    def __init__(
        self,
        run: Run,
        config: TrainingConfig,
        model: nn.Module,
        loss_fn: LossFn,
        evaluators: Sequence[Evaluator],
    ) -> None:
        self.run = run
        self.config = config
        self.evaluators = evaluators
        self.learner = Learner(
            model,
            loss_fn,
            config.optimizer,
            run.world,
            precision=choose_precision(config.precision, run.world.device),
            n_accumulation=config.n_accumulation,
            compile_model=config.compile,
        )
        self.n_params = sum(parameter.numel() for parameter in model.parameters())
        self.state = TrainState()
        self.profiler = Profiler(run.world.device)
        self.learning_rate = self.grad_norm = 0.0

    def resume(self) -> None:
        """Go on from the newest intact checkpoint, if there is one; rows written after it are cut."""
        run, world = self.run, self.run.world
        newest = run.checkpoints.latest() if world.is_main else None
        (found,) = world.sum(
            [0 if newest is None else newest]
        )  # every process takes the one that rank 0 has proved
        if found > 0:
            saved = load_training(
                run.checkpoints.path(int(found)), self.learner.model, self.learner.optimizer
            )
            self.learner.load_state(saved["learner"])
            self.state = TrainState(**saved["state"])
            self.profiler = Profiler(world.device, saved["seconds"])
        if world.is_main:
            n_rows = run.metrics.cut(self.state.step) + run.evals.cut(self.state.step)
            if found > 0:
                logger.info("Going on from step %d; %d later rows removed.", self.state.step, n_rows)
        world.wait()

    def take_step(self, batch: Batch) -> None:
        """One optimizer step.

        Raises:
            Diverged: before the weights are touched.
        """
        config, learner, step = self.config, self.learner, self.state.step
        # Dropout masks are a function of the step: there is no generator to save, and no evaluation can shift them.
        torch.manual_seed(named_seed(config.seed, f"dropout/{step}/{self.run.world.rank}"))
        with self.profiler.phase("forward_backward"):
            sums = learner.backward(batch)
        with self.profiler.phase("optimizer"):
            grad_norm = learner.clip()
            skipped = self._check_finite(sums.loss_nats, grad_norm)
            self.learning_rate = learning_rate(config.optimizer, step, config.n_steps)
            learner.update(self.learning_rate)
        self.grad_norm = grad_norm
        self.state.add(sums, skipped)
        flops = training_flops(learner.model, batch) * self.run.world.world_size
        self.profiler.count(sums.n_tokens, sums.n_examples, flops)

    def _check_finite(self, loss_nats: float, grad_norm: float) -> bool:
        """Is this step one that float16 scaling skips? Any other one must be finite."""
        scaler = self.learner.scaler
        if math.isfinite(loss_nats) and math.isfinite(grad_norm):
            return False
        if math.isfinite(loss_nats) and scaler.is_enabled() and scaler.get_scale() > 1.0:
            return True
        step, world = self.state.step, self.run.world
        saved = self.run.checkpoints.steps()
        raise Diverged(
            f"Step {step + 1} has a loss of {loss_nats} nats and a gradient norm of {grad_norm}: no update was made "
            f"with it, and the last checkpoint is that of step {saved[-1] if saved else 0}. Its batch is "
            f"stream.batch({step}, rank={world.rank}, world_size={world.world_size}). A lower learning rate, a longer "
            "warm-up or precision=float32 may help."
        )

    def log(self) -> None:
        """Write a row of metrics where one is due: its loss is the mean over all loss tokens since the last row."""
        state, config = self.state, self.config
        if state.step not in (1, config.n_steps) and state.step % config.log_every != 0:
            return
        row = {
            "step": state.step,
            "loss": state.loss_nats / state.n_loss_tokens,
            "lr": self.learning_rate,
            "grad_norm": self.grad_norm,
            "n_tokens_seen": state.n_tokens_seen,
            "n_examples_seen": state.n_examples_seen,
            **({"n_skipped_steps": state.n_skipped_steps} if self.learner.scaler.is_enabled() else {}),
            **self.profiler.row(),
        }
        state.loss_nats, state.n_loss_tokens = 0.0, 0
        if self.run.world.is_main:
            self.run.metrics.append(row)
        line = (
            f"step {state.step}/{config.n_steps}  loss {row['loss']:.4f}  lr {row['lr']:.2e}  "
            f"{row['tokens_per_second']:,.0f} tok/s"
        )
        if state.step in (1, config.n_steps):
            self.run.log.say(line)
        else:
            self.run.log.say_sometimes(line)

    def evaluate(self) -> None:
        """Write a row of evaluations where one is due and not there yet."""
        step, every, run = self.state.step, self.config.eval_every, self.run
        due = step == self.config.n_steps or (every is not None and step > 0 and step % every == 0)
        if not (due and self.evaluators and run.world.is_main) or run.evals.last().get("step") == step:
            return
        row: dict[str, float] = {"step": step}
        model = self.learner.model.eval()
        with self.profiler.phase("evaluate"), torch.no_grad():
            for evaluator in self.evaluators:
                torch.manual_seed(named_seed(self.config.seed, f"evaluate/{step}"))
                measures = evaluator.evaluate(model, step)
                if row.keys() & measures.keys():
                    raise ValueError(
                        f"Two evaluators report {sorted(row.keys() & measures.keys())}: rename one."
                    )
                row |= measures
        model.train()
        run.evals.append(row)
        run.log.say(
            "  ".join([f"step {step}", *(f"{name} {value:.4g}" for name, value in list(row.items())[1:])])
        )

    def save(self) -> None:
        """Write a checkpoint; the rows it vouches for are on disk before it."""
        run = self.run
        if not run.world.is_main:
            return
        with self.profiler.phase("checkpoint"):
            run.metrics.sync()
            run.evals.sync()
            state = {
                "state": asdict(self.state),
                "learner": self.learner.state(),
                "seconds": self.profiler.elapsed_seconds,
            }
            keep = self.config.checkpoint.keep
            run.checkpoints.save(self.state.step, self.learner.model, self.learner.optimizer, state, keep)

    def finish(self, status: str) -> TrainResult:
        """Write the result."""
        self.run.world.wait()
        return self.run.finish(status, self.state.step, self.profiler.elapsed_seconds, self.n_params)
