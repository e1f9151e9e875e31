"""One optimizer step: gradients of a global batch, however it is cut into micro-batches and processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nanollama.data.batch import Batch
from nanollama.distributed import World
from nanollama.errors import UserError
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import MODEL, Stateful, load_training, load_weights
from nanollama.precision import Precision, gradient_scaler, precision_context
from nanollama.training.optim import OptimizerConfig, build_optimizer, set_learning_rate
from nanollama.training.sharding import Shards, WholeOptimizer, gathered

LossFn = Callable[[nn.Module, Batch], Tensor]
"""Sum of the losses, in nats, of all targets of a batch that are not `IGNORE`: a scalar in float32."""


@dataclass(frozen=True)
class StepSums:
    """What a step has seen, summed over micro-batches and processes."""

    loss_nats: float
    n_loss_tokens: int
    n_tokens: int
    n_examples: int


class Learner:
    """A model, its optimizer, and the three moves of a step: `backward`, `clip`, `update`.

    Args:
        model: moved to the world's device and changed in place.
        loss_fn: summed loss of a batch.
        config: of the optimizer.
        world: the processes that train together; each is given its share of every batch.
        precision: of matrix products.
        n_accumulation: micro-batches of a process's share; as many as it has rows where these are fewer.
        compile_model: compile the forward and backward pass.
        sharded: share parameters out over the processes, instead of one copy in each.
    """

    def __init__(
        self,
        model: LanguageModel,
        loss_fn: LossFn,
        config: OptimizerConfig,
        world: World,
        *,
        precision: Precision = "float32",
        n_accumulation: int = 1,
        compile_model: bool = False,
        sharded: bool = False,
    ) -> None:
        self.model = model.to(world.device).train()
        self._shards = Shards(self.model, world) if sharded and world.world_size > 1 else None
        self.optimizer = build_optimizer(config, self.model)
        self.scaler = gradient_scaler(precision, world.device)
        self._loss_fn = compiled(loss_fn, world.device) if compile_model else loss_fn
        self._clip_grad_norm = config.clip_grad_norm
        self._world = world
        self._precision = precision
        self._n_accumulation = n_accumulation
        self.wrap()

    def wrap(self) -> None:
        """Replicate the model, again where a change decided which parameters learn."""
        self._replica = self.model if self._shards is not None else self._world.wrap(self.model)

    def backward(self, batch: Batch) -> StepSums:
        """Gradients of the loss per token of the global batch, of which ``batch`` is this process's share."""
        world = self._world
        counts = world.sum([batch.n_loss_tokens, batch.n_tokens, batch.n_examples])
        n_loss_tokens, n_tokens, n_examples = (int(count) for count in counts)
        if n_loss_tokens == 0:
            raise ValueError("No token of the batch carries loss: there is nothing to learn from it.")
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        n_parts = self._n_accumulation
        if n_parts > 1:  # a packed batch can have fewer rows
            n_rows = len(batch.input_ids)
            # Shares gather the model in each part: all processes take as many.
            n_parts = min(n_parts, n_rows if self._shards is None else world.min(n_rows))
        parts = batch.split(n_parts)
        for index, part in enumerate(parts):
            with self._synchronised(index == len(parts) - 1):
                with precision_context(self._precision, world.device):
                    loss = self._loss_fn(self._replica, part.to(world.device))
                # Replicas average their gradients; times their number, that is the sum over all tokens.
                self.scaler.scale(loss * (world.world_size / n_loss_tokens)).backward()
            losses.append(loss.detach().double())
        (loss_nats,) = world.sum([torch.stack(losses).sum().item()])
        return StepSums(loss_nats, n_loss_tokens, n_tokens, n_examples)

    def clip(self) -> float:
        """Norm of the whole gradient, which is then scaled down to the largest norm allowed."""
        self.scaler.unscale_(self.optimizer)
        limit = float("inf") if self._clip_grad_norm is None else self._clip_grad_norm
        return float(gathered(nn.utils.clip_grad_norm_(self.model.parameters(), limit)))

    def update(self, learning_rate: float) -> None:
        """Take the optimizer step; with float16, skip it where scaling has made a gradient overflow."""
        set_learning_rate(self.optimizer, learning_rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def whole(self) -> LanguageModel | None:
        """The plain model, where it is shared out in the first process alone; all call this together."""
        return self.model if self._shards is None else self._shards.whole()

    def whole_optimizer(self) -> Stateful:
        """The optimizer with its whole state, for a checkpoint; all processes call this together."""
        return self.optimizer if self._shards is None else WholeOptimizer.gather(self.optimizer)

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """Read weights and optimizer from a checkpoint; returns the state it was saved with."""
        if self._shards is None:
            load_weights(checkpoint, self.model)
            return load_training(checkpoint, self.optimizer)
        self._shards.load(load_file(checkpoint / MODEL))
        return load_training(checkpoint, WholeOptimizer(self.optimizer))

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and optimizer, as JSON."""
        return self.scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; empty where nothing was scaled: float16 then starts afresh."""
        if state:
            self.scaler.load_state_dict(state)

    def _synchronised(self, last: bool) -> AbstractContextManager[None]:
        """Replicas exchange gradients in the last micro-batch only."""
        if last or not isinstance(self._replica, DistributedDataParallel):
            return nullcontext()
        return self._replica.no_sync()


def compiled(loss_fn: LossFn, device: torch.device) -> LossFn:
    """Model and loss in one graph, for batches of any length.

    The loss belongs into the graph: alone it reads and writes the logits several times.

    Raises:
        UserError: there is no compiler.
    """
    check_compiler(device)
    return torch.compile(loss_fn, dynamic=True)


def check_compiler(device: torch.device) -> None:
    """Refuse to compile where there is no C++ compiler, which torch needs for it.

    Raises:
        UserError: none is found.
    """
    candidates = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    if sys.platform != "win32" and not any(shutil.which(name) for name in candidates if name):
        raise UserError(
            f"training.compile=true needs a C++ compiler to build {device.type} kernels, and none of c++, "
            "g++, clang++, $CXX was found: install one, or set training.compile=false."
        )
