"""The optimizer and the schedule of its learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from nanollama.config import Config

if TYPE_CHECKING:  # reading a config does not wait for torch
    import torch
    from torch import nn

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """AdamW (arXiv 1711.05101; Adam, without weight decay) or SGD, and its schedule."""

    implementation: Literal["adamw", "sgd"] = Field(
        default="adamw", description="`adamw`, or `sgd`: plain gradient descent, with momentum if wanted."
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, description="Peak learning rate, reached at the end of the warm-up."
    )
    betas: tuple[Decay, Decay] = Field(
        default=(0.9, 0.95),
        description="Decay rates of the running means of gradients and of squared gradients, for `adamw`.",
    )
    momentum: float = Field(
        default=0.0, ge=0, lt=1, description="Decay rate of the running sum of gradients, for `sgd`."
    )
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the mean squared gradient.")
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="Each step shrinks weights by learning rate * weight decay; for `sgd` with momentum, "
        "what decays joins the gradient, so later steps shrink them further.",
    )
    decay: Literal["matrices", "all"] = Field(
        default="matrices",
        description="What decays: `matrices` spares biases and norm scales, `all` decays every parameter, as "
        "the published in-tool runs did.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine",
        description="How the learning rate falls from its peak to its end after the warm-up.",
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        description="Steps of linear warm-up: step k of w learns at k / w of the peak, so none is lost.",
    )
    min_lr_ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Learning rate at the end of `cosine` and `linear`, as a share of the peak.",
    )
    clip_grad_norm: float | None = Field(
        default=1.0,
        gt=0,
        description="Largest norm of the gradient of all parameters together; null never clips.",
    )

    @model_validator(mode="after")
    def _check_kind(self) -> OptimizerConfig:
        for key, kind in (("betas", "adamw"), ("eps", "adamw"), ("momentum", "sgd")):
            if self.implementation != kind and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} belongs to implementation = {kind}, not to {self.implementation}")
        return self


def learning_rate(config: OptimizerConfig, step: int, n_steps: int) -> float:
    """Learning rate of a step.

    Args:
        config: peak, warm-up and shape; a warm-up longer than the run takes all of it.
        step: optimizer steps done before this one, 0 .. n_steps - 1.
        n_steps: steps of the whole run. The schedule ends one step after the last, so the last one learns.
    """
    warmup_steps = min(config.warmup_steps, n_steps)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(n_steps - warmup_steps, 1)
    height = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[config.schedule]
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * height)


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over the parameters that require a gradient, each tensor once, also where it is tied.

    The fused kernel is used where the parameters are on a device that has one, so move the model first.
    """
    from torch.optim import SGD, AdamW

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("The model has no parameter that requires a gradient: there is nothing to train.")
    decayed = [p for p in parameters if config.decay == "all" or p.dim() >= 2]
    spared = [p for p in parameters if config.decay == "matrices" and p.dim() < 2]
    assert sum(p.numel() for p in [*decayed, *spared]) == sum(p.numel() for p in parameters)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if config.implementation == "sgd":
        # Its fused kernel leaves a momentum of arbitrary bits where a scaler skips the first step.
        fused = fused and config.momentum == 0
        return SGD(used, lr=config.learning_rate, momentum=config.momentum, fused=fused)
    return AdamW(used, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give all parameter groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value
