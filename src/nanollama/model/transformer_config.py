"""The shape of a transformer, as a section of a config."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nanollama.config import Config


class TransformerConfig(Config):
    """Shape of a transformer. Counts that are ``None`` follow from the others."""

    implementation: Literal["transformer"] = Field("transformer", description="Which model this is.")
    vocab_size: int = Field(260, ge=1, description="Number of token ids.")
    d_model: int = Field(description="Width of the residual stream.", ge=1)
    n_layers: int = Field(description="Number of blocks.", ge=1)
    n_heads: int = Field(description="Number of query heads.", ge=1)
    n_kv_heads: int | None = Field(None, ge=1, description="Number of key-value heads; default n_heads.")
    head_dim: int | None = Field(None, ge=1, description="Width of a head; default d_model / n_heads.")
    d_ff: int | None = Field(None, ge=1, description="Width of the MLP; default 4 d_model.")
    norm: Literal["rms", "layer"] = Field("rms", description="RMSNorm or LayerNorm, before each half block.")
    norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in a norm.")
    mlp: Literal["swiglu", "gelu"] = Field("swiglu", description="Gated (three matrices) or plain (two).")
    positions: Literal["rotary", "learned", "none"] = Field("rotary", description="How positions are told.")
    position_dim: int | None = Field(
        None,
        ge=1,
        description="Coordinates of the stream that learned positions write to; default d_model.",
    )
    max_seq_len: int = Field(512, ge=1, description="Longest input, in tokens.")
    rope_theta: float = Field(10_000.0, gt=0, description="Base of the rotary wavelengths.")
    rope_two_pi: bool = Field(
        False,
        description="Multiply rotary angles by 2 pi, as the published runs of arXiv 2508.20755 did: the "
        "fastest pair of each head then turns by whole circles and tells no position.",
    )
    tied_embeddings: bool = Field(False, description="Use one matrix for input and output embeddings.")
    bias: bool = Field(False, description="Biases in the linear maps (and in LayerNorm).")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout on embeddings and on both halves of a block."
    )
    embedding_dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout on embeddings, where it differs from dropout."
    )
    residual: Literal["stream", "normed"] = Field(
        "stream",
        description="What attention adds to: the stream, or the normed stream, as the published runs of "
        "arXiv 2406.02128 did, which forgets the scale of what came before.",
    )
    embedding_std: float | None = Field(
        None, gt=0, description="Spread of initial embeddings of tokens and positions; default init_std."
    )
    init_std: float | None = Field(
        None, gt=0, description="Spread of initial weights; default d_model ** -0.5."
    )

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model = {self.d_model} is not a multiple of n_heads = {self.n_heads}")
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads = {self.n_heads} is not a multiple of n_kv_heads = {self.kv_heads}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"rotary positions turn pairs: head_dim = {self.head_width} must be even")
        if self.rope_two_pi and self.positions != "rotary":
            raise ValueError(f"rope_two_pi needs positions = rotary, not {self.positions}")
        if self.position_dim is not None and self.positions != "learned":
            raise ValueError(f"position_dim needs positions = learned, not {self.positions}")
        if self.position_width > self.d_model:
            raise ValueError(f"position_dim = {self.position_dim} is more than d_model = {self.d_model}")
        return self

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return self.n_kv_heads or self.n_heads

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return self.d_ff or 4 * self.d_model

    @property
    def position_width(self) -> int:
        """Coordinates of the stream that learned positions write to."""
        return self.position_dim or self.d_model
