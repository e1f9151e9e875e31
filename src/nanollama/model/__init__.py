"""Models, by the name their config gives as ``implementation``."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from nanollama.model.transformer_config import TransformerConfig

if TYPE_CHECKING:
    import torch

    from nanollama.model.transformer import Transformer

ModelConfig = TransformerConfig
MODELS = {"transformer": "nanollama.model.transformer:Transformer"}
"""Where the class of each is: reading a config does not wait for torch."""


def model_class(config: ModelConfig) -> type[Transformer]:
    """The class that a config describes a model of."""
    found: type[Transformer] = resolve_name(MODELS[config.implementation])
    return found


def build_model(config: ModelConfig, generator: torch.Generator) -> Transformer:
    """A model with weights drawn from the generator (of the CPU, so that every device starts alike)."""
    model = model_class(config)(config)
    model.init_weights(generator)
    return model
