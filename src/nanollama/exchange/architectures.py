"""Where a model of ours is one that Hugging Face knows: Llama, GPT-2, Mamba2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nanollama.errors import UserError
from nanollama.exchange import gpt2, llama, mamba2
from nanollama.exchange.keys import Keys
from nanollama.exchange.weights import Weight
from nanollama.model.config import ModelConfig
from nanollama.model.mixers import ATTENTION, MAMBA2
from nanollama.wording import show, suggest


@dataclass(frozen=True)
class Architecture:
    """A kind of model, in both worlds.

    Args:
        title: what people call it.
        model_class: its name in transformers.
        model_types: names that a ``config.json`` may have for it, the first of which we write.
        needs: keys of our config, with the values at which the two coincide.
        misfit: what else keeps a config of ours from being one, in words.
        write: our config as keys of ``config.json``, without those that all share.
        read: such keys as keys of our config, without those that all share.
        weights: the parameters of both, without the output embeddings.
        prefix: of the names of their parameters, which some files leave out.
        tied: are embeddings tied where a ``config.json`` does not say?
        derived: ends of names of tensors that can stand in a file and follow from the config.
    """

    title: str
    model_class: str
    model_types: tuple[str, ...]
    needs: Mapping[str, tuple[Any, ...]]
    misfit: Callable[[ModelConfig], str | None]
    write: Callable[[ModelConfig], dict[str, Any]]
    read: Callable[[Keys], dict[str, Any]]
    weights: Callable[[ModelConfig], list[Weight]]
    prefix: str
    tied: bool = False
    derived: tuple[str, ...] = ()

    def why_not(self, config: ModelConfig) -> str | None:
        """What keeps a config of ours from being one, in words; None when nothing does."""
        different = [
            f"model.{key} = {show(getattr(config, key))} (it needs {' or '.join(map(show, allowed))})"
            for key, allowed in self.needs.items()
            if getattr(config, key) not in allowed
        ]
        misfit = self.misfit(config)
        return " and ".join([*different, *([misfit] if misfit else [])]) or None


LLAMA = Architecture(
    "Llama",
    "LlamaForCausalLM",
    ("llama", "mistral"),
    llama.NEEDS,
    llama.misfit,
    llama.write,
    llama.read,
    llama.weights,
    prefix="model.",
    derived=("rotary_emb.inv_freq",),
)
GPT2 = Architecture(
    "GPT-2",
    "GPT2LMHeadModel",
    ("gpt2",),
    gpt2.NEEDS,
    gpt2.misfit,
    gpt2.write,
    gpt2.read,
    gpt2.weights,
    prefix="transformer.",
    tied=True,
    derived=(".attn.bias", ".attn.masked_bias"),
)
MAMBA = Architecture(
    "Mamba2",
    "Mamba2ForCausalLM",
    ("mamba2",),
    mamba2.NEEDS,
    mamba2.misfit,
    mamba2.write,
    mamba2.read,
    mamba2.weights,
    prefix="backbone.",
)
ARCHITECTURES = (LLAMA, GPT2, MAMBA)


def of_ours(config: ModelConfig, where: str) -> Architecture:
    """The architecture that a model of ours is.

    Args:
        config: of the model.
        where: whose it is, for the message.

    Raises:
        UserError: it is none of them.
    """
    mixers = tuple(dict.fromkeys(config.mixers))
    if mixers == (ATTENTION,):
        nearest = GPT2 if config.norm == "layer" or config.positions == "learned" else LLAMA
    elif mixers == (MAMBA2,):
        nearest = MAMBA
    else:
        raise UserError(
            f"{where} cannot be exported: its blocks are {', '.join(mixers)}, and Hugging Face knows blocks "
            f"that are all {ATTENTION} or all {MAMBA2}."
        )
    reason = nearest.why_not(config)
    if reason is not None:
        raise UserError(f"{where} cannot be exported: it is no {nearest.title}, for {reason}.")
    return nearest


def of_theirs(keys: Keys) -> Architecture:
    """The architecture of a ``config.json``.

    Raises:
        UserError: none that our models can be.
    """
    name = keys.get("model_type", str)
    known = {kind: one for one in ARCHITECTURES for kind in one.model_types}
    if name not in known:
        hint = suggest(name, known) or "."
        raise UserError(
            f"{keys.path}: model_type = {show(name)} cannot be imported; expected one of "
            f"{', '.join(known)}{hint}"
        )
    for key in ("auto_map", "quantization_config"):
        keys.expect(key, None)
    return known[name]
