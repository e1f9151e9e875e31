"""Models, by the name their config gives as ``implementation``."""

from __future__ import annotations

import torch

from nanollama.model.transformer import Transformer, TransformerConfig

ModelConfig = TransformerConfig
MODELS: dict[str, tuple[type[TransformerConfig], type[Transformer]]] = {
    "transformer": (TransformerConfig, Transformer),
}


def build_model(config: ModelConfig, generator: torch.Generator) -> Transformer:
    """A model with weights drawn from the generator (of the CPU, so that every device starts alike)."""
    _, model_class = MODELS[config.implementation]
    model = model_class(config)
    model.init_weights(generator)
    return model
