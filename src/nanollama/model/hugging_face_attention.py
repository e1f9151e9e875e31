"""Kernels of ours in the attention of models of the package transformers, where probes look and change.

transformers asks for attention by a name in the model's config. Inside `attending_by` that name is ours, and
each layer calls the kernel that is given for it, or `attend`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from nanollama.errors import UserError
from nanollama.model.mixers.attention import Kernel, attend

NAME = "nanollama"
_KERNELS: dict[int, Mapping[int, Kernel]] = {}
"""By the identity of the config of a model that is being probed, which its layers share: kernels by layer."""


@contextmanager
def attending_by(model: Any, kernels: Mapping[int, Kernel]) -> Iterator[None]:
    """Inside, a model of transformers attends by these kernels, by layer; afterwards as before.

    Raises:
        UserError: this version of transformers, or the code of this model, has no place for them.
    """
    _register()
    config = model.config
    name, before = config._attn_implementation, _KERNELS.get(id(config))
    _KERNELS[id(config)] = kernels
    try:
        model.set_attn_implementation(NAME)
        if config._attn_implementation != NAME:
            raise UserError(
                f"Probes cannot look into the attention of a {type(model).__name__}, which takes no "
                "other kernels from transformers: expected a model such as Llama or GPT-2."
            )
        yield
    finally:
        if before is None:
            del _KERNELS[id(config)]
            model.set_attn_implementation(name)
        else:
            _KERNELS[id(config)] = before


def _register() -> None:
    """Tell transformers of our name, with the masks of its plain implementation: numbers that are added."""
    try:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, eager_mask
    except ImportError:
        raise UserError(
            "Probes of models of Hugging Face need a newer transformers: pip install -U transformers."
        ) from None
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, eager_mask)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: (B, H, M, K) to (B, M, H, K), and no maps."""
    kernel = _KERNELS[id(module.config)].get(module.layer_idx, attend)
    if scaling is not None:  # ours divide by the root of the width
        query = query * (scaling * query.shape[-1] ** 0.5)
    return kernel(query, key, value, attention_mask, causal=True).transpose(1, 2).contiguous(), None
