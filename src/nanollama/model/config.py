"""The shape of a model, as a section of a config."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from nanollama.config import Config
from nanollama.model.mixers import ATTENTION, HAWK, MAMBA2, MIXERS
from nanollama.wording import show, suggest

HUGGING_FACE = "hugging_face"


class ModelConfig(Config):
    """Shape of a model of ours. Counts that are ``None`` follow from the others.

    Keys that no mixer of the model reads may stay: one key then makes another model of the same config.
    """

    implementation: str | tuple[str, ...] = Field(
        default=ATTENTION,
        min_length=1,
        description="What mixes tokens in the blocks: a mixer, or a list of them, which is repeated.",
    )
    vocab_size: int = Field(default=256, ge=1, description="Number of token ids.")
    d_model: int = Field(description="Width of the residual stream.", ge=1)
    n_layers: int = Field(description="Number of blocks.", ge=1, le=10_000)
    n_heads: int | None = Field(
        default=None,
        ge=1,
        description="Number of query heads, which attention needs, and of blocks of Hawk's gates, default 1.",
    )
    n_kv_heads: int | None = Field(
        default=None, ge=1, description="Number of key-value heads; default n_heads."
    )
    head_dim: int | None = Field(
        default=None, ge=1, description="Width of a head, of Mamba2 too; default d_model / n_heads."
    )
    expand: int = Field(default=2, ge=1, description="Width of recurrent mixers, as a multiple of d_model.")
    d_state: int = Field(
        default=16, ge=1, description="Numbers that Mamba2 remembers of each of its channels."
    )
    conv_size: int = Field(
        default=4,
        ge=1,
        description="Tokens that the convolution before a recurrence spans; 1: the token itself alone.",
    )
    chunk_size: int = Field(
        default=32,
        ge=1,
        description="Tokens that Mamba2 takes at once: a matter of speed, not of results.",
    )
    causal: bool = Field(
        default=True,
        description="Does a token see none that come after it? Where it sees them, padding has to be a "
        "document of its own.",
    )
    d_ff: int | None = Field(default=None, ge=1, description="Width of the MLP; default 4 d_model.")
    norm: Literal["rms", "layer"] = Field(
        default="rms", description="RMSNorm or LayerNorm, one a half block; `residual` says where."
    )
    norm_eps: float = Field(default=1e-5, gt=0, description="Added to the variance in a norm.")
    mlp: Literal["swiglu", "gelu", "gelu_tanh", "none"] = Field(
        default="swiglu",
        description="Gated (three matrices), plain (two; gelu_tanh with the approximate GELU of GPT-2), or "
        "none, as in published stacks of Mamba2.",
    )
    positions: Literal["rotary", "learned", "relative", "none"] = Field(
        default="rotary",
        description="How positions are told; rotary ones to attention alone, as relative ones: what a vector "
        "learned for each distance adds to scores (arXiv 2009.13658, method 4), without `causal`.",
    )
    position_dim: int | None = Field(
        default=None,
        ge=1,
        description="Coordinates of the stream that learned positions write to; default d_model.",
    )
    max_seq_len: int = Field(
        default=512,
        ge=1,
        description="Longest input, in tokens: of a row, or of each document of a packed one. Where "
        "positions have no table (none, or no block attends) longer ones are read too.",
    )
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary wavelengths.")
    rope_two_pi: bool = Field(
        default=False,
        description="Multiply rotary angles by 2 pi, as the published runs of arXiv 2508.20755 did: the "
        "fastest pair of each head then turns by whole circles and tells no position.",
    )
    tied_embeddings: bool = Field(
        default=False, description="Use one matrix for input and output embeddings."
    )
    bias: bool = Field(default=False, description="Biases in the linear maps (and in LayerNorm).")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout on embeddings and on both halves of a block."
    )
    embedding_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout on embeddings, where it differs from dropout."
    )
    residual: Literal["stream", "normed", "post"] = Field(
        default="stream",
        description="What a mixer adds to: the stream, or the normed stream, as the published runs of "
        "arXiv 2406.02128 did, which forgets the scale of what came before; post: norms behind the sums "
        "and the embeddings, as in BERT (arXiv 1810.04805).",
    )
    embedding_std: float | None = Field(
        default=None,
        gt=0,
        description="Spread of initial embeddings of tokens and positions; default init_std.",
    )
    init_std: float | None = Field(
        default=None, gt=0, description="Spread of initial weights; default d_model ** -0.5."
    )

    def __new__(cls, **values: Any) -> ModelConfig:
        """With keys of mixers from outside the library, a config is of a class that has them too."""
        return super().__new__(_joined(cls, _options(values)) if values else cls)

    @model_validator(mode="wrap")
    @classmethod
    def _join_options(
        cls, values: Any, handler: ModelWrapValidatorHandler[ModelConfig], info: ValidationInfo
    ) -> ModelConfig:
        """See `__new__`."""
        if not isinstance(values, dict):
            return handler(values)
        joined = _joined(cls, _options(values))
        values = _with_tuples(values)  # what was read as JSON is here no longer known to be
        return handler(values) if joined is cls else joined.model_validate(values, strict=info.mode == "json")

    @field_validator("implementation")
    @classmethod
    def _check_names(cls, implementation: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in _names(implementation):
            if name == HUGGING_FACE:
                raise ValueError(
                    f"'{HUGGING_FACE}' is a whole model, not one of several mixers: give it alone, as "
                    f"implementation: {HUGGING_FACE}"
                )
            if name not in MIXERS:
                known = [*MIXERS, HUGGING_FACE]
                hint = suggest(name, known) or "."
                raise ValueError(f"expected one of {', '.join(map(repr, known))}, got {show(name)}{hint}")
        return implementation

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.n_layers % len(_names(self.implementation)):
            raise ValueError(
                f"implementation names {len(self.implementation)} mixers: n_layers = {self.n_layers} must be "
                "a multiple of that"
            )
        mixers = dict.fromkeys(self.mixers)
        for name in mixers:
            if not (self.causal or MIXERS[name].bidirectional):
                raise ValueError(f"causal = false is not for {name}, which reads from first to last")
        has_heads = self.uses_attention or MAMBA2 in mixers
        if has_heads and self.head_dim is None and self.d_model % (self.n_heads or 1):
            raise ValueError(f"d_model = {self.d_model} is not a multiple of n_heads = {self.n_heads}")
        if self.uses_attention:
            self._check_attention()
        self._check_recurrence(mixers)
        if self.position_dim is not None and self.positions != "learned":
            raise ValueError(f"position_dim needs positions = learned, not {self.positions}")
        if self.positions == "relative" and (self.causal or not self.uses_attention):
            raise ValueError("positions = relative needs attention and causal = false: set those, or rotary")
        if self.position_width > self.d_model:
            raise ValueError(f"position_dim = {self.position_dim} is more than d_model = {self.d_model}")
        return self

    def _check_attention(self) -> None:
        if self.n_heads is None:
            raise ValueError("n_heads is missing: attention needs a number of heads, such as 4")
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads = {self.n_heads} is not a multiple of n_kv_heads = {self.kv_heads}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"rotary positions turn pairs: head_dim = {self.head_width} must be even")
        if self.rope_two_pi and self.positions != "rotary":
            raise ValueError(f"rope_two_pi needs positions = rotary, not {self.positions}")

    def _check_recurrence(self, mixers: Collection[str]) -> None:
        width = self.recurrent_width
        if MAMBA2 in mixers and width % self.head_width:
            raise ValueError(
                f"expand * d_model = {width} is not a multiple of head_dim = {self.head_width}, "
                "the width of a head of mamba2"
            )
        if HAWK in mixers and width % (self.n_heads or 1):
            raise ValueError(
                f"expand * d_model = {width} is not a multiple of n_heads = {self.n_heads}, "
                "the number of blocks of a gate of hawk"
            )

    @classmethod
    def brought_fields(cls) -> dict[str, dict[str, FieldInfo]]:
        """Keys that mixers from outside the library bring into this section, by the name of the mixer."""
        return {
            name: dict(entry.options.model_fields)
            for name, entry in MIXERS.items()
            if entry.options is not None
        }

    @property
    def mixers(self) -> tuple[str, ...]:
        """The mixer of each block."""
        names = _names(self.implementation)
        return names * (self.n_layers // len(names))

    @property
    def uses_attention(self) -> bool:
        """Does any block attend?"""
        return any(MIXERS[name].attends for name in _names(self.implementation))

    @property
    def query_heads(self) -> int:
        """Number of query heads."""
        assert self.n_heads is not None, "only models that attend have heads"
        return self.n_heads

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return self.n_kv_heads or self.query_heads

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.head_dim or self.d_model // (self.n_heads or 1)

    @property
    def recurrent_width(self) -> int:
        """Width of recurrent mixers."""
        return self.expand * self.d_model

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return self.d_ff or 4 * self.d_model

    @property
    def position_width(self) -> int:
        """Coordinates of the stream that learned positions write to."""
        return self.position_dim or self.d_model


class LoraConfig(Config):
    """Low-rank changes to the maps of a model, which alone are learned (arXiv 2106.09685)."""

    rank: int = Field(default=16, ge=1, description="Rank of each change.")
    alpha: int = Field(default=32, ge=1, description="Changes are scaled by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of what changes read.")
    modules: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of the maps, such as q_proj; default: all but the head.",
    )
    load_in_8bit: bool = Field(
        default=False,
        description="Keep the maps that do not learn in 8 bits (bitsandbytes): less memory, coarser numbers.",
    )


class SizesConfig(Config):
    """Keys of an architecture of transformers with their values."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int | float | bool | str] = Field(init=False)

    @property
    def keys_and_values(self) -> dict[str, int | float | bool | str]:
        """All of them."""
        return dict(self.__pydantic_extra__ or {})


class HuggingFaceConfig(Config):
    """A causal language model of the package transformers."""

    implementation: Literal["hugging_face"] = Field(description="Which model this is.")
    path: str | None = Field(default=None, description="Folder of a model, or its name on the hub.")
    architecture: str | None = Field(
        default=None, description="Without path: architecture to draw weights for, such as llama or gpt2."
    )
    sizes: SizesConfig = Field(
        default=SizesConfig(),
        description="Of the architecture, by the names transformers has for them: hidden_size.",
    )
    vocab_size: int = Field(default=256, ge=1, description="Number of token ids in the data.")
    max_seq_len: int = Field(default=512, ge=1, description="Longest input, in tokens.")
    added_tokens: tuple[str, ...] = Field(
        default=(),
        description="With path: special tokens that its tokenizer is given, and the model embeddings for.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute layers again in the backward pass: less memory, slower steps."
    )
    lora: LoraConfig | None = Field(
        default=None,
        description="Learn low-rank changes, and the embeddings of added tokens, instead of all weights.",
    )

    @model_validator(mode="after")
    def _check(self) -> HuggingFaceConfig:
        if (self.path is None) == (self.architecture is None):
            raise ValueError(
                "expected either path or architecture, the one for trained weights, the other for new ones"
            )
        if self.path is not None and self.sizes.keys_and_values:
            raise ValueError("sizes are those of the model in path: leave them out")
        if self.lora is not None and self.path is None:
            raise ValueError("lora changes a model that is trained: name it in path, or leave out lora")
        return self


def model_tag(section: Any) -> str:
    """Which member of `ModelSection` a section is."""
    stated = section.get("implementation") if isinstance(section, dict) else None
    return HUGGING_FACE if isinstance(section, HuggingFaceConfig) or stated == HUGGING_FACE else ATTENTION


ModelSection = Annotated[
    Annotated[ModelConfig, Tag(ATTENTION)] | Annotated[HuggingFaceConfig, Tag(HUGGING_FACE)],
    Discriminator(model_tag),
    SerializeAsAny(),
]
"""What the section ``model`` of a study's config may be."""


def _names(implementation: Any) -> tuple[str, ...]:
    return (implementation,) if isinstance(implementation, str) else tuple(implementation)


def _options(values: dict[str, Any]) -> tuple[type[Config], ...]:
    """Classes of the further keys of the mixers that a section names, as far as it can be read."""
    stated = values.get("implementation", ATTENTION)
    names = stated if isinstance(stated, list | tuple) else (stated,)
    entries = (MIXERS[name] for name in names if isinstance(name, str) and name in MIXERS)
    return tuple(dict.fromkeys(entry.options for entry in entries if entry.options is not None))


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _with_tuples(inner) if isinstance(inner, dict | list) else inner
            for key, inner in value.items()
        }
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


@cache
def _joined(section: type[ModelConfig], options: tuple[type[Config], ...]) -> type[ModelConfig]:
    """The section with more keys, if it lacks them."""
    lacking = tuple(one for one in options if not issubclass(section, one))
    names = {"__module__": section.__module__}
    return type(section.__name__, (section, *lacking), names) if lacking else section
