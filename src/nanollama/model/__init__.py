"""Models, by the name their config gives as ``implementation``.

A model is the shell of this library with a mixer in each block (`nanollama.model.shell`,
`nanollama.model.mixers`), or one of Hugging Face (`nanollama.model.hugging_face`). Both have the face of
`nanollama.model.protocol.LanguageModel`.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from nanollama.model.config import HuggingFaceConfig, ModelConfig, ModelSection

if TYPE_CHECKING:
    import torch

    from nanollama.model.protocol import LanguageModel

__all__ = ["HuggingFaceConfig", "ModelConfig", "ModelSection", "build_model", "model_class", "outline"]


def model_class(config: ModelSection) -> type[LanguageModel]:
    """The class that a config describes a model of: reading a config does not wait for torch."""
    is_ours = isinstance(config, ModelConfig)
    path = "nanollama.model.shell:Shell" if is_ours else "nanollama.model.hugging_face:HuggingFaceModel"
    found: type[LanguageModel] = resolve_name(path)
    return found


def build_model(
    config: ModelSection, generator: torch.Generator, *, is_to_be_loaded: bool = False
) -> LanguageModel:
    """A model with weights drawn from the generator (of the CPU, so that every device starts alike).

    Args:
        is_to_be_loaded: all weights come from elsewhere afterwards: some may be left unset.

    Raises:
        ValueError: a mixer leaves weights of its own unset.
    """
    model = model_class(config)(config)
    model.init_weights(generator)
    if not is_to_be_loaded:
        model.check_drawn()
    return model


def outline(config: ModelSection) -> LanguageModel:
    """The model that a config describes, without weights: it takes no memory, for shapes and counts."""
    import torch

    with torch.device("meta"):
        return model_class(config)(config)
