"""The Trainer of transformers with the rows of a stream, our loss, optimizer and schedule; see `trainer`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils.data import SequentialSampler

from apps.memory.pretrained_model.trainer import Rows, TrainerLearner, TrainerLoop, collate, rows_each
from nanollama.data.batch import IGNORE
from nanollama.monitor.preemption import Preemption
from nanollama.monitor.run_folder import Run
from nanollama.monitor.successor import TRAINER
from nanollama.precision import Precision
from nanollama.seeds import named_seed
from nanollama.training.config import TrainingConfig
from nanollama.training.optim import build_optimizer, learning_rate
from nanollama.training.sharding import gathered


def trainer_arguments(
    run: Run, config: TrainingConfig, precision: Precision
) -> transformers.TrainingArguments:
    """What the Trainer is told; where processes share a model out, accelerate tells it more."""
    found = transformers.TrainingArguments(
        output_dir=str(run.folder / TRAINER),
        max_steps=config.n_steps,
        per_device_train_batch_size=rows_each(config, run.world.world_size),
        gradient_accumulation_steps=config.n_accumulation,
        max_grad_norm=config.optimizer.clip_grad_norm or 0.0,
        learning_rate=config.optimizer.learning_rate,
        seed=named_seed(config.seed, "trainer") % 2**31,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        torch_compile=config.compile,
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=config.checkpoint.every,
        save_total_limit=config.checkpoint.keep,
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=run.world.device.type == "cpu",
        dataloader_pin_memory=run.world.device.type == "cuda",
    )
    found._n_gpu = min(found.n_gpu, 1)  # several GPUs in one process would train copies that are never equal
    return found


class StreamTrainer(transformers.Trainer):
    """Takes the steps of a loop.

    Args:
        loop: writes rows and checkpoints, and evaluates; it may have read a checkpoint.
        rows: of all steps.
        preemption: says when to stop.
        arguments: of `trainer_arguments`.
    """

    def __init__(
        self, loop: TrainerLoop, rows: Rows, preemption: Preemption, arguments: transformers.TrainingArguments
    ) -> None:
        self.loop, self.rows, self.loss_nats = loop, rows, torch.zeros((), dtype=torch.float64)
        inner = loop.learner.model.get_submodule("model")
        super().__init__(
            model=inner,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            compute_loss_func=self.mean_loss,
            callbacks=[LoopCallback(self, rows, preemption)],
        )
        self.remove_callback(transformers.PrinterCallback)
        assert isinstance(loop.learner, TrainerLearner)
        loop.learner.trainer = self

    def run(self) -> None:
        """Take the steps that are left, from the checkpoint that the loop has read."""
        assert isinstance(self.loop.learner, TrainerLearner)
        started_at = self.loop.learner.started_at
        self.train(
            resume_from_checkpoint=f"{self.args.output_dir}/checkpoint-{started_at}" if started_at else None
        )

    def mean_loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Summed cross entropy over the loss tokens of the global batch, as `Learner.backward` has it."""
        logits, targets = outputs.logits[:, :-1].float(), labels[:, 1:]
        summed = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        self.loss_nats += summed.detach().double().cpu()
        return summed / num_items_in_batch

    def grad_norm(self) -> float:
        """Norm of the clipped gradient of this process; 0 for float16, whose scaler skips what overflows."""
        if self.accelerator.mixed_precision == "fp16":
            return 0.0
        groups = self.create_optimizer().param_groups
        gradients = [weight.grad for group in groups for weight in group["params"] if weight.grad is not None]
        return float(gathered(get_total_norm(gradients)))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Ours."""
        if self.optimizer is None:
            learning: Any = self.model if model is None else model
            self.optimizer = build_optimizer(self.loop.config.optimizer, learning)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Ours: a share of the peak by step."""
        config, n_steps = self.loop.config.optimizer, self.loop.config.n_steps

        def share(step: int) -> float:
            return learning_rate(config, min(step, n_steps - 1), n_steps) / config.learning_rate

        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), share)
        return self.lr_scheduler

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        """In their order, which is shuffled already."""
        return SequentialSampler(self.rows)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights are in the run's own checkpoints; here is a place for the rest."""
        Path(output_dir or str(self.args.output_dir)).mkdir(parents=True, exist_ok=True)

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        """The loop has read them."""


class LoopCallback(transformers.TrainerCallback):
    """Tells the loop what the Trainer does, and the Trainer when to write, to save and to stop."""

    def __init__(self, trainer: StreamTrainer, rows: Rows, preemption: Preemption) -> None:
        self.trainer, self.rows, self.preemption = trainer, rows, preemption
        self.loop = trainer.loop
        self.step = ExitStack()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """What is due before the first step."""
        self.loop.evaluate()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step is timed."""
        self.step.enter_context(self.loop.profiler.phase("forward_backward"))

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Nothing is learned from a loss or a gradient that is not finite."""
        trainer, loop = self.trainer, self.loop
        loop.learning_rate = trainer.create_optimizer().param_groups[0]["lr"]
        loss_nats = float(trainer.loss_nats)
        trainer.loss_nats = torch.zeros_like(trainer.loss_nats)
        loop.count_step(loss_nats, trainer.grad_norm(), self.rows)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Evaluate where that is due, and say whether this was the last step."""
        self.step.close()
        loop = self.loop
        loop.evaluate()
        stop = loop.run.world.any(self.preemption.reason is not None)
        is_last = stop or state.global_step == loop.config.n_steps or loop.is_decided()
        if is_last:
            control.should_log = control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write the row of a step."""
        if logs and "grad_norm" in logs:
            self.loop.grad_norm = float(logs["grad_norm"])
            self.loop.log()

    def on_save(self, *_: Any, **__: Any) -> None:
        """The Trainer has saved what it needs; the run's checkpoint vouches for that."""
        self.loop.save()
