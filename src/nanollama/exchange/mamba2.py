"""A stack of our Mamba2 without MLPs is Hugging Face's Mamba2 (arXiv 2405.21060) with one group."""

from __future__ import annotations

from typing import Any

from nanollama.exchange.keys import Keys
from nanollama.exchange.weights import Weight
from nanollama.model.config import ModelConfig

NEEDS: dict[str, tuple[Any, ...]] = {
    "norm": ("rms",),
    "mlp": ("none",),
    "positions": ("rotary", "none"),  # the rotary ones are told to attention alone
    "residual": ("stream",),
}


NO_LIMITS = ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}])
"""Of steps, as several versions of transformers write it."""


def misfit(config: ModelConfig) -> str | None:
    """See `nanollama.exchange.architectures.Architecture`."""
    return None


def write(config: ModelConfig) -> dict[str, Any]:
    """See `nanollama.exchange.architectures.Architecture`."""
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_heads": config.recurrent_width // config.head_width,
        "head_dim": config.head_width,
        "state_size": config.d_state,
        "expand": config.expand,
        "conv_kernel": config.conv_size,
        "chunk_size": config.chunk_size,
        "n_groups": 1,
        "layer_norm_epsilon": config.norm_eps,
        "hidden_act": "silu",
        "use_bias": config.bias,
        "use_conv_bias": True,
        "max_position_embeddings": config.max_seq_len,  # its own config has no such key, and keeps it
    }


def read(keys: Keys) -> dict[str, Any]:
    """See `nanollama.exchange.architectures.Architecture`."""
    keys.expect("hidden_act", "silu", default="silu")
    keys.expect("n_groups", 1, default=8)
    keys.expect("use_conv_bias", True, default=True)
    limits = keys.values.get("time_step_limit")
    if limits is not None and limits not in NO_LIMITS:
        raise keys.refusal("time_step_limit", limits, "no limits, [0.0, Infinity]")
    return {
        "implementation": "mamba2",
        "d_model": keys.get("hidden_size", int),
        "n_layers": keys.get("num_hidden_layers", int),
        "head_dim": keys.get("head_dim", int, 64),
        "d_state": keys.get("state_size", int, 128),
        "expand": keys.get("expand", int, 2),
        "conv_size": keys.get("conv_kernel", int, 4),
        "chunk_size": keys.get("chunk_size", int, 256),
        "norm_eps": keys.get("layer_norm_epsilon", float, 1e-5),
        "max_seq_len": keys.get("max_position_embeddings", int, 2048),
        "bias": keys.get("use_bias", bool, False),
        "norm": "rms",
        "mlp": "none",
        "positions": "none",
    }


def weights(config: ModelConfig) -> list[Weight]:
    """See `nanollama.exchange.architectures.Architecture`."""
    width, inner = config.d_model, config.recurrent_width
    n_convolved, n_heads = inner + 2 * config.d_state, inner // config.head_width
    table = [
        Weight("embedding.weight", {"backbone.embeddings.weight": config.vocab_size}),
        Weight("norm.weight", {"backbone.norm_f.weight": width}),
    ]
    maps = {"input": ("in_proj", inner + n_convolved + n_heads), "output": ("out_proj", width)}
    for layer in range(config.n_layers):
        there, here = f"backbone.layers.{layer}.mixer", f"blocks.{layer}.mamba2"
        table += [
            Weight(f"{here}_norm.weight", {f"backbone.layers.{layer}.norm.weight": width}),
            Weight(f"{here}.convolution.taps", {f"{there}.conv1d.weight": n_convolved}, "channels"),
            Weight(f"{here}.convolution.bias", {f"{there}.conv1d.bias": n_convolved}),
            Weight(f"{here}.norm.weight", {f"{there}.norm.weight": inner}),
            *(Weight(f"{here}.{name}", {f"{there}.{name}": n_heads}) for name in ("dt_bias", "A_log", "D")),
        ]
        for ours, (theirs, n_rows) in maps.items():
            for kind in ("weight", "bias") if config.bias else ("weight",):
                table.append(Weight(f"{here}.{ours}.{kind}", {f"{there}.{theirs}.{kind}": n_rows}))
    return table
