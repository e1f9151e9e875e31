"""Norms, by the name that a config gives as ``norm``."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nanollama.model.config import ModelConfig

NORMS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "rms": lambda config: nn.RMSNorm(config.d_model, eps=config.norm_eps),
    "layer": lambda config: nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias),
}
