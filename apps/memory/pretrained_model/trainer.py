"""The other engine: the Trainer of transformers, with accelerate, for models that do not fit one device.

Data, masks, order of rows, loss per token of the global batch, optimizer, schedule, evaluations and folder
are those of our loop. What differs is who takes the steps, and so how a model may be shared out: FSDP and
DeepSpeed come from the config file of accelerate alone, ``accelerate launch --config_file FILE -m
apps.memory.pretrained_model.finetune CONFIG engine=trainer``.

A run that was stopped goes on with the batches, weights, optimizer, schedule and random numbers of its newest
checkpoint; one process on a CPU ends with the same bits. What the Trainer needs for that lies in the run's
folder ``trainer``; ``checkpoints`` has the weights, as in any run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.memory.settings import MemoryConfig
from nanollama.data.batch import IGNORE, PAD
from nanollama.data.stream import DocumentStream
from nanollama.errors import MissingExtraError, UserError
from nanollama.model import build_model
from nanollama.model.hugging_face import HuggingFaceModel
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import NoOptimizer, load_training, load_weights
from nanollama.monitor.preemption import Preemption
from nanollama.monitor.profiler import training_flops
from nanollama.monitor.run_folder import open_run
from nanollama.precision import gradient_scaler
from nanollama.seeds import named_seed
from nanollama.training.config import TrainingConfig
from nanollama.training.learner import Learner, LossFn, StepSums
from nanollama.training.loop import Loop
from nanollama.training.run import Parts
from nanollama.wording import count


class Rows(Dataset[dict[str, np.ndarray]]):
    """The rows of a run in their order: row g is row g % batch_size of the batch of step g // batch_size."""

    def __init__(self, stream: DocumentStream, n_steps: int) -> None:
        self.stream, self.n_steps = stream, n_steps
        self._rows = lru_cache(maxsize=2)(stream.rows)

    def __len__(self) -> int:
        return self.n_steps * self.stream.batch_size

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        step, row = divmod(number, self.stream.batch_size)
        source, index = self._rows(step)[row]
        ids, mask = self.stream.sources[source].document(index)
        return {"input_ids": ids, "labels": np.where(mask, ids, IGNORE)}


def collate(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Rows padded to the longest, as the models of transformers read them."""
    shape = len(rows), max(len(row["input_ids"]) for row in rows)
    ids, labels = np.full(shape, PAD), np.full(shape, IGNORE)
    is_read = np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(rows):
        n_tokens = len(row["input_ids"])
        ids[number, :n_tokens], labels[number, :n_tokens] = row["input_ids"], row["labels"]
        is_read[number, :n_tokens] = 1
    named = {"input_ids": ids, "attention_mask": is_read, "labels": labels}
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in named.items()}


class TrainerLearner(Learner):
    """What the loop asks of a learner, where the Trainer is the one that learns."""

    def __init__(self, model: HuggingFaceModel, loop: TrainerLoop) -> None:
        self.model = model
        self.scaler = gradient_scaler("float32", loop.run.world.device)
        self.optimizer = None  # type: ignore[assignment]
        self.trainer: Any = None
        self.started_at: int | None = None  # the step of the checkpoint that was loaded

    def wrap(self) -> None:
        """The Trainer does."""

    def whole(self) -> LanguageModel | None:
        """See `Learner.whole`; where the model is shared out, a copy that has all of it."""
        accelerator = self.trainer.accelerator
        assert isinstance(self.model, HuggingFaceModel)
        if not (self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled):
            return self.model
        state = accelerator.get_state_dict(self.trainer.model_wrapped)
        if not accelerator.is_main_process:
            return None
        copy = build_model(self.model.config, torch.Generator().manual_seed(0))
        copy.get_submodule("model").load_state_dict(state)
        return copy.to(accelerator.device)

    def whole_optimizer(self) -> NoOptimizer:
        """None of it: the Trainer keeps it."""
        return NoOptimizer()

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """Read the weights; the Trainer reads the rest."""
        load_weights(checkpoint, self.model)
        self.started_at = int(checkpoint.name.rpartition("_")[2])
        return load_training(checkpoint, NoOptimizer())


class TrainerLoop(Loop):
    """Writes the rows, evaluations and checkpoints of a run while the Trainer takes its steps."""

    def make_learner(self, model: LanguageModel, loss_fn: LossFn) -> Learner:
        """See `Loop.make_learner`."""
        assert isinstance(model, HuggingFaceModel)
        return TrainerLearner(model.to(self.run.world.device), self)

    def count_step(self, loss_nats: float, grad_norm: float, rows: Rows) -> None:
        """Note what a step of the Trainer has seen.

        Raises:
            Diverged: its loss or gradient was not finite.
        """
        world = self.run.world
        loss_nats, grad_norm = world.sum([loss_nats, grad_norm / world.world_size])
        self._check_finite(loss_nats, grad_norm)
        batch = rows.stream.batch(self.state.step)
        self.state.add(
            StepSums(loss_nats, batch.n_loss_tokens, batch.n_tokens, batch.n_examples), skipped=False
        )
        self.profiler.count(batch.n_tokens, batch.n_examples, training_flops(self.learner.model, batch))

    def evaluate(self) -> None:
        """See `Loop.evaluate`; in float32, as our own loop evaluates."""
        assert isinstance(self.learner.model, HuggingFaceModel)
        with _without_autocast(self.learner.model.model):
            super().evaluate()


@contextmanager
def _without_autocast(model: Any) -> Iterator[None]:
    """accelerate wraps the forward pass of a model into autocast, for its evaluations too."""
    wrapped, plain = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    if plain is None:
        yield
        return
    model.forward = plain
    try:
        yield
    finally:
        model.forward = wrapped


def train_by_trainer(
    config: MemoryConfig, build: Callable[[MemoryConfig], AbstractContextManager[Parts]]
) -> None:
    """What `nanollama.training.run.train_run` does, by the Trainer.

    Raises:
        Preempted: a signal or ``max_minutes`` ended it early; everything is saved.
        UserError: the folder, the data or the model cannot be used, or batches do not divide.
        MissingExtraError: transformers or accelerate is not installed.
    """
    for name in ("transformers", "accelerate"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, "hf")
    from apps.memory.pretrained_model.trainer_steps import StreamTrainer, trainer_arguments

    training = config.resolved_training
    with open_run(config, config.folder, device=training.device, overwrite=config.overwrite) as run:
        if run.result is not None:
            return
        rows_each(training, run.world.world_size)  # before anything is built
        with build(config) as parts, ExitStack() as stack:
            run.record_data(parts.data_hashes)
            run.record_measured(parts.measured)
            assert isinstance(parts.stream, DocumentStream)
            weights = torch.Generator().manual_seed(named_seed(training.seed, "init"))
            model = build_model(config.model, weights)
            preemption = stack.enter_context(Preemption(training.max_minutes))
            stack.enter_context(torch.random.fork_rng())
            loop = TrainerLoop(run, training, model, parts.loss_fn, parts.evaluators)
            loop.resume()
            rows = Rows(parts.stream, training.n_steps)
            trainer = StreamTrainer(loop, rows, preemption, trainer_arguments(run, training, loop.precision))
            stack.enter_context(loop.open_trackers())
            trainer.run()
            loop.save_or_stop(preemption.reason)
            loop.finish("finished")


def rows_each(config: TrainingConfig, world_size: int) -> int:
    """Rows of a micro-batch in one process.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """
    n_parts = world_size * config.n_accumulation
    if config.batch_size % n_parts:
        raise UserError(
            f"training.batch_size = {config.batch_size} cannot be shared out evenly, which engine = trainer "
            f"needs: expected a multiple of {n_parts}, for {config.n_accumulation} micro-batches "
            f"(n_accumulation) in each of {count(world_size, 'process')}."
        )
    return config.batch_size // n_parts
