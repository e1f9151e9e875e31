"""What mixes tokens in a block, by the name that a config gives as ``implementation``.

A mixer is one file of this folder: a class derived from `nanollama.model.mixers.mixer.Mixer`, with its
decoding state. Its keys are keys of `nanollama.model.ModelConfig`. A study or a test registers a mixer of its
own with `register_mixer`, together with a class of its further keys, and no file of the library changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from nanollama.config import Config

if TYPE_CHECKING:
    from nanollama.model.mixers.mixer import Mixer


@dataclass(frozen=True)
class MixerEntry:
    """A mixer that configs can name.

    Args:
        path: where its class is, ``package.module:Class``: reading a config does not wait for torch.
        options: its keys that `ModelConfig` does not have; in a config they stand beside all others.
        bidirectional: can it do without ``causal``?
        attends: is it told which keys tokens see and, with ``positions = rotary``, how far to turn them
            (``mask`` and ``rotary`` of `nanollama.model.mixers.mixer.Context`)? It then needs ``n_heads``.
    """

    path: str
    options: type[Config] | None = None
    bidirectional: bool = False
    attends: bool = False


ATTENTION = "transformer"
"""Attention goes by the name of what it makes."""
MAMBA2, HAWK = "mamba2", "hawk"

MIXERS: dict[str, MixerEntry] = {
    ATTENTION: MixerEntry("nanollama.model.mixers.attention:Attention", bidirectional=True, attends=True),
    MAMBA2: MixerEntry("nanollama.model.mixers.mamba2:Mamba2"),
    HAWK: MixerEntry("nanollama.model.mixers.hawk:Hawk"),
    "mingru": MixerEntry("nanollama.model.mixers.mingru:MinGRU"),
    "minlstm": MixerEntry("nanollama.model.mixers.minlstm:MinLSTM"),
}


def register_mixer(
    name: str,
    path: str,
    options: type[Config] | None = None,
    *,
    bidirectional: bool = False,
    attends: bool = False,
) -> None:
    """Let configs name a mixer from outside the library; arguments as in `MixerEntry`.

    Raises:
        ValueError: the name is taken, or a key of the mixer is one of `ModelConfig`.
    """
    from nanollama.model.config import ModelConfig

    if name in MIXERS:
        raise ValueError(f"There is a mixer '{name}' already: {MIXERS[name].path}.")
    taken = (options.model_fields.keys() if options else set()) & ModelConfig.model_fields.keys()
    if taken:
        raise ValueError(
            f"The mixer '{name}' cannot bring keys that every model has: {', '.join(sorted(taken))}."
        )
    MIXERS[name] = MixerEntry(path, options, bidirectional, attends)


def mixer_class(name: str) -> type[Mixer]:
    """The class of a mixer."""
    found: type[Mixer] = resolve_name(MIXERS[name].path)
    return found
