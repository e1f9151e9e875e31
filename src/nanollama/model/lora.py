"""Low-rank changes to a model of transformers, by peft (arXiv 2106.09685)."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch

from nanollama.errors import MissingExtraError, UserError
from nanollama.model.config import LoraConfig
from nanollama.wording import first_sentence


def with_lora(model: Any, config: LoraConfig, new_tokens: list[int]) -> Any:
    """The model with low-rank changes; these and the embeddings of new tokens learn.

    Raises:
        UserError: there are no such maps.
        MissingExtraError: peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtraError("peft", "hf") from None
    from transformers.pytorch_utils import Conv1D

    keys = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear" if config.modules is None else list(config.modules),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # as in GPT-2
        trainable_token_indices=_learned_rows(model, new_tokens),
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, keys).get_base_model()
    except ValueError as error:
        raise UserError(f"model.lora.modules: {first_sentence(error)}") from error


def merge(model: Any) -> Any:
    """The model, with what its low-rank changes and its new tokens have learned added to its own weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for name, module in [*model.named_modules()]:
        if isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.unload_and_optionally_merge_module(True, False, None))
        elif isinstance(module, BaseTunerLayer) and not name.endswith(".token_adapter"):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
    model.tie_weights()
    return model


def in_8_bits() -> dict[str, Any]:
    """Arguments by which transformers reads maps into 8 bits (arXiv 2208.07339).

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "8bit")
    import transformers

    # It says of each map, at each step, that it rounds in float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    coarse = transformers.BitsAndBytesConfig(load_in_8bit=True)
    return {"quantization_config": coarse, "dtype": torch.float32}


def _learned_rows(model: Any, new_tokens: list[int]) -> dict[str, list[int]] | None:
    """Rows of the embeddings that learn, by the name of the module; tied ones follow those of the input."""
    kept = {model.get_input_embeddings()}
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        kept.add(model.get_output_embeddings())
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if module in kept]
    return {name: new_tokens for name in names} if new_tokens else None
