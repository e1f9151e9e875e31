"""The one training loop.

A study brings a model, a stream of batches, a loss and evaluators; the loop brings everything else. Beside
weights and optimizer its state is the number of steps done: batches, learning rates and dropout masks are
functions of it, so a run that was stopped anywhere ends with the same bits as one that was not. Changes of
the model or the optimizer at a given step are `nanollama.training.interventions`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Protocol

import torch

from nanollama.data.prefetch import Prefetcher
from nanollama.data.stream import Stream
from nanollama.determinism import deterministic_algorithms, seed_draws
from nanollama.errors import Preempted
from nanollama.measures import say_measures
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.origin import check_origins
from nanollama.monitor.preemption import Preemption
from nanollama.monitor.profiler import Profiler, training_flops
from nanollama.monitor.run_folder import Run, Status, TrainResult
from nanollama.monitor.track import Tracker, numbers_of, open_trackers
from nanollama.precision import choose_precision
from nanollama.seeds import named_seed
from nanollama.training.checks import (
    check_interventions_given,
    check_measures,
    check_processes,
    check_token_ids,
)
from nanollama.training.config import TrainingConfig
from nanollama.training.interventions import Intervention, check_interventions, done_before, note_origin
from nanollama.training.learner import Learner, LossFn
from nanollama.training.optim import learning_rate
from nanollama.training.state import TrainState
from nanollama.wording import count, nanollama_command

logger = logging.getLogger(__name__)


class Evaluator(Protocol):
    """Something to measure while a model is trained."""

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """Measures by name, with their unit in it; a pure function of the model's weights and the step.

        No name is one of `nanollama.measures.TAKEN` or of a key of the config.
        Called in the process of rank 0 alone, without gradients, on the plain model in evaluation mode.
        """
        ...


class Diverged(RuntimeError):
    """A loss or a gradient is not finite. No optimizer step was taken with it."""


def train(
    run: Run,
    config: TrainingConfig,
    *,
    model: LanguageModel,
    stream: Stream,
    loss_fn: LossFn,
    evaluators: Sequence[Evaluator] = (),
    interventions: Sequence[Intervention] = (),
) -> TrainResult:
    """Train a model to its last step, from the newest intact checkpoint, and write ``result.json``.

    Args:
        run: the open run folder; a finished one is left as it is, if its first batch is that of the stream.
        config: how to train.
        model: with its initial weights; moved to the run's device and changed in place.
        stream: batches by step, counted from 0.
        loss_fn: summed loss of a batch.
        evaluators: asked every ``eval_every`` steps and after the last; their measures share one row.
        interventions: what to do to the model at which step.

    Raises:
        Preempted: a signal or ``max_minutes`` ended it early; everything is saved.
        Diverged: the loss or the gradient was not finite.
        UserError: see `nanollama.training.checks`; or the run was started with another stream.
    """
    if (result := _checked(run, config, model, stream, interventions)) is not None:
        return result
    device = run.world.device
    with deterministic_algorithms(config.deterministic), ExitStack() as stack:
        preemption = stack.enter_context(Preemption(config.max_minutes))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        loop = Loop(run, config, model, loss_fn, evaluators, interventions)
        run.record_precision(loop.precision)
        loop.resume()
        stack.enter_context(loop.open_trackers())
        batches = stack.enter_context(loop.prefetch(stream))
        progress = stack.enter_context(run.log.progress(config.n_steps))
        loop.evaluate()
        while loop.state.step < config.n_steps and not loop.is_decided():
            loop.intervene()
            loop.take_step(batches)
            loop.log()
            progress.update(loop.state.step)
            loop.save_or_stop(preemption.reason)
            loop.evaluate()
        loop.save()
        return loop.finish("finished")


def _checked(
    run: Run,
    config: TrainingConfig,
    model: LanguageModel,
    stream: Stream,
    interventions: Sequence[Intervention],
) -> TrainResult | None:
    """Refuse what would not be trained as it says; the result of a run that is finished."""
    check_processes(config, run.world, interventions)
    check_interventions_given(run.config, interventions)
    first_batch = stream.batch(0)
    run.record_first_batch(first_batch.sha256())
    if run.result is None:
        check_token_ids(first_batch, model)
    return run.result


class Loop:
    """The parts of a run and what is done with them at a step; `train` says when, and with what."""

    def __init__(
        self,
        run: Run,
        config: TrainingConfig,
        model: LanguageModel,
        loss_fn: LossFn,
        evaluators: Sequence[Evaluator],
        interventions: Sequence[Intervention] = (),
    ) -> None:
        self.run = run
        self.config = config
        self.evaluators = evaluators
        self.interventions = interventions
        self.precision = choose_precision(config.precision, run.world.device)
        self.learner = self.make_learner(model, loss_fn)
        self.state = TrainState()
        self.profiler = Profiler(run.world.device)
        self.learning_rate = self.grad_norm = 0.0
        self.decision: str | None = None
        self.saved_step: int | None = None  # of the newest checkpoint
        self.trackers: list[Tracker] = []

    def make_learner(self, model: LanguageModel, loss_fn: LossFn) -> Learner:
        """What takes the steps."""
        config = self.config
        return Learner(
            model,
            loss_fn,
            config.optimizer,
            self.run.world,
            precision=self.precision,
            n_accumulation=config.n_accumulation,
            compile_model=config.compile,
            sharded=config.parallel == "sharded",
        )

    def resume(self) -> None:
        """Go on from the newest intact checkpoint, if there is one, and cut the rows written after it."""
        run, world = self.run, self.run.world
        newest = (run.checkpoints.latest() or 0) if world.is_main else 0
        step = int(world.sum([newest])[0])  # every process takes the one that rank 0 has proved
        check_origins(run.folder, step)
        check_interventions(self.interventions, self.learner.model, self.learner.optimizer, step)
        if step > 0:
            for intervention in done_before(self.interventions, step):
                intervention.change_training(self.learner.model, self.learner.optimizer)
            self.learner.wrap()
            saved = self.learner.load(run.checkpoints.path(step))
            self.learner.load_state(saved["learner"])
            self.state = TrainState(**saved["state"])
            self.profiler = Profiler(world.device, saved["seconds"], step)
            if saved["precision"] != self.precision:
                logger.warning("The run was in %s and goes on in %s.", saved["precision"], self.precision)
        world.wait()
        if world.is_main:
            warmup_steps, n_steps = self.config.optimizer.warmup_steps, self.config.n_steps
            if warmup_steps > n_steps:
                words = (
                    "training.optimizer.warmup_steps = %d is more than n_steps = %d: the warm-up takes all."
                )
                logger.warning(words, warmup_steps, n_steps)
            n_rows = run.metrics.cut(step) + run.evals.cut(step)
            if step > 0:
                logger.info("Going on from step %d; rows written after it: %d, removed.", step, n_rows)
        self.saved_step = step or None

    def prefetch(self, stream: Stream) -> Prefetcher:
        """This process's batches, from that of the next step on."""
        config, world, step = self.config, self.run.world, self.state.step
        return Prefetcher(stream, step, config.n_steps, config.n_prefetch, world.rank, world.world_size)

    @contextmanager
    def open_trackers(self) -> Iterator[None]:
        """Show rows elsewhere too, where the config asks for it."""
        run = self.run
        names = self.config.track if run.world.is_main else ()
        run_id = f"{run.folder.name}-{run.config_hash}"
        with open_trackers(names, run.folder, run_id, self.state.step + 1) as self.trackers:
            yield

    def intervene(self) -> None:
        """Do what is to be done between this step and the next."""
        due = [intervention for intervention in self.interventions if intervention.at_step == self.state.step]
        for intervention in due:
            if self.run.world.is_main:
                note_origin(intervention, self.run.folder)
            intervention.change_weights(self.learner.model, self.learner.optimizer)
            intervention.change_training(self.learner.model, self.learner.optimizer)
        if due:
            self.learner.wrap()

    def take_step(self, batches: Prefetcher) -> None:
        """One optimizer step, on the next batch.

        Raises:
            Diverged: before the weights are touched; the result says so.
        """
        config, learner, step = self.config, self.learner, self.state.step
        with self.profiler.phase("data"):
            batch = batches.next()
        # Dropout masks are a function of the step: no generator to save, no evaluation that could shift them.
        seed_draws(named_seed(config.seed, f"dropout/{step}/{self.run.world.rank}"), self.run.world.device)
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
        self.finish("diverged")
        raise Diverged(
            f"Step {step + 1} has a loss of {loss_nats} nats and a gradient norm of {grad_norm}: the weights "
            f"were left as they are, and the last checkpoint is of step {saved[-1] if saved else 0}. "
            f"The batch was stream.batch({step}, rank={world.rank}, world_size={world.world_size}). "
            "A lower learning rate, a longer warm-up or precision=float32 may help."
        )

    def log(self) -> None:
        """Write a row of metrics where one is due: the first, the last, and every ``log_every`` steps.

        The loss, in nats, is the mean over loss tokens since the last row; the gradient norm is of one step.
        """
        state, n_steps = self.state, self.config.n_steps
        at_end = state.step in (1, n_steps)
        if not (at_end or state.step % self.config.log_every == 0):
            return
        loss, rates = state.loss_nats / state.n_loss_tokens, self.profiler.row()
        state.loss_nats, state.n_loss_tokens = 0.0, 0
        row = {
            "step": state.step,
            "loss": loss,
            "lr": self.learning_rate,
            "grad_norm": self.grad_norm,
            "n_tokens_seen": state.n_tokens_seen,
            "n_examples_seen": state.n_examples_seen,
            **({"n_skipped_steps": state.n_skipped_steps} if self.learner.scaler.is_enabled() else {}),
            **rates,
        }
        if self.run.world.is_main:
            self.run.metrics.append(row)
            self.run.begin()
        for tracker in self.trackers:
            tracker.show(state.step, numbers_of(row))
        seconds_left = self.profiler.seconds_left(state.step, n_steps)
        self.run.log.say_sometimes(
            f"step {state.step}/{n_steps}  loss {loss:.4f}  lr {self.learning_rate:.2e}  "
            f"{rates['tokens_per_second']:,.0f} tok/s  {timedelta(seconds=round(seconds_left))} left",
            always=at_end,
        )

    def is_decided(self) -> bool:
        """Do the evaluations so far say that more steps would not change the outcome? Then that is noted."""
        rule, run = self.config.stop_when, self.run
        if rule is None or not self.evaluators or not self._is_evaluated():
            return False
        if run.world.is_main:
            self.decision = rule.reason(run.evals.read())
        return run.world.any(self.decision is not None)

    def _is_evaluated(self) -> bool:
        """Is an evaluation due after this step?"""
        step, every = self.state.step, self.config.eval_every
        return step == self.config.n_steps or (every is not None and step > 0 and step % every == 0)

    def evaluate(self) -> None:
        """Write a row of evaluations where one is due and not there yet."""
        step, run = self.state.step, self.run
        if not (self._is_evaluated() and self.evaluators):
            return
        model = self.learner.whole()
        if model is None or not run.world.is_main or run.evals.last().get("step") == step:
            return
        row: dict[str, float] = {"step": step}
        model.eval()
        with self.profiler.phase("evaluate"), torch.no_grad():
            for evaluator in self.evaluators:
                seed_draws(named_seed(self.config.seed, f"evaluate/{step}"), run.world.device)
                measures = evaluator.evaluate(model, step)
                check_measures(measures, row, evaluator, run.config)
                row |= measures
        model.train()
        run.evals.append(row)
        for tracker in self.trackers:
            tracker.show(step, numbers_of(row))
        if step < self.config.n_steps:  # those of the last step are said at the end
            run.log.say(f"step {step}, evaluated:")
            for line in say_measures(numbers_of(row)):
                run.log.say(f"  {line}")

    def save_or_stop(self, reason: str | None) -> None:
        """Write a checkpoint where one is due: after the last step, every so many steps, and before leaving.

        Args:
            reason: why this process was asked to stop; None if it was not.

        Raises:
            Preempted: one of the processes was; the state is saved.
        """
        step, n_steps = self.state.step, self.config.n_steps
        stop = self.run.world.any(reason is not None)
        if stop or step % self.config.checkpoint.every == 0 or step == n_steps:
            self.save()
        if stop:
            self.finish("preempted")
            why = reason or "another process was asked to stop"
            raise Preempted(
                f"Stopped after step {step} of {n_steps} ({why}), the state is saved in {self.run.folder}: "
                "run the same command again, without overwrite=true."
            )

    def save(self) -> None:
        """Write a checkpoint, if this step has none; the rows it vouches for are on disk before it."""
        if self.saved_step == self.state.step:
            return
        self.saved_step = self.state.step
        run = self.run
        model, optimizer = self.learner.whole(), self.learner.whole_optimizer()
        if model is None or not run.world.is_main:
            return
        with self.profiler.phase("checkpoint"):
            run.metrics.sync()
            run.evals.sync()
            state = {
                "state": asdict(self.state),
                "learner": self.learner.state(),
                "precision": self.precision,
                "seconds": self.profiler.elapsed_seconds,
            }
            keep = self.config.checkpoint.keep
            run.checkpoints.save(self.state.step, model, optimizer, state, keep)

    def say_end(self, result: TrainResult) -> None:
        """What came out, how long it took, and what to look at next."""
        log, seconds = self.run.log, timedelta(seconds=round(result.seconds))
        why = f", decided: {result.decided}" if result.decided else ""
        log.say(f"finished after {count(result.step, 'step')} in {seconds}{why}")
        for line in say_measures(result.metrics):
            log.say(f"  {line}")
        log.say(f"next: {nanollama_command('report', str(self.run.folder))}")

    def finish(self, status: Status) -> TrainResult:
        """Write the result."""
        self.run.world.wait()
        n_params = sum(parameter.numel() for parameter in self.learner.model.parameters())
        seconds = self.profiler.elapsed_seconds
        result = self.run.finish(status, self.state.step, seconds, n_params, self.decision)
        if status == "finished":
            self.say_end(result)
        return result
