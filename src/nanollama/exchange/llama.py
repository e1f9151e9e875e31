"""Our transformer with RMSNorm, SwiGLU and rotary positions is Hugging Face's Llama (arXiv 2302.13971)."""

from __future__ import annotations

from typing import Any

from nanollama.exchange.keys import Keys
from nanollama.exchange.weights import Weight
from nanollama.model.config import ModelConfig

NEEDS: dict[str, tuple[Any, ...]] = {
    "causal": (True,),
    "norm": ("rms",),
    "mlp": ("swiglu",),
    "positions": ("rotary",),
    "rope_two_pi": (False,),
    "residual": ("stream",),
}


def misfit(config: ModelConfig) -> str | None:
    """See `nanollama.exchange.architectures.Architecture`."""
    if config.d_model % config.query_heads:  # transformers refuses it, also with a head_dim
        return f"model.d_model = {config.d_model} is not a multiple of model.n_heads = {config.n_heads}"
    return None


def write(config: ModelConfig) -> dict[str, Any]:
    """See `nanollama.exchange.architectures.Architecture`."""
    return {
        "hidden_size": config.d_model,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.query_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
    }


def read(keys: Keys) -> dict[str, Any]:
    """See `nanollama.exchange.architectures.Architecture`."""
    keys.expect("hidden_act", "silu", default="silu")
    keys.expect("sliding_window", None)
    bias = keys.expect("attention_bias", False, True, default=False)
    keys.expect("mlp_bias", bias, default=False)
    n_heads = keys.get("num_attention_heads", int)
    return {
        "d_model": keys.get("hidden_size", int),
        "d_ff": keys.get("intermediate_size", int),
        "n_layers": keys.get("num_hidden_layers", int),
        "n_heads": n_heads,
        "n_kv_heads": keys.get("num_key_value_heads", int, n_heads),
        "head_dim": keys.get("head_dim", int, keys.get("hidden_size", int) // max(1, n_heads)),
        "max_seq_len": keys.get("max_position_embeddings", int, 2048),
        "norm_eps": keys.get("rms_norm_eps", float, 1e-6),
        "rope_theta": _theta(keys),
        "bias": bias,
        "norm": "rms",
        "mlp": "swiglu",
        "positions": "rotary",
    }


def _theta(keys: Keys) -> float:
    """The base of the wavelengths; those that are scaled in any way are refused."""
    theta = keys.get("rope_theta", float, 10_000.0)
    for name in ("rope_scaling", "rope_parameters"):
        inner = keys.values.get(name)
        if inner is None:
            continue
        if not isinstance(inner, dict):
            raise keys.refusal(name, inner, "rotary positions without scaling")
        kind = inner.get("rope_type", inner.get("type", "default"))
        if kind != "default":
            raise keys.refusal(f"{name}.rope_type", kind, "'default', rotary positions without scaling")
        if inner.get("partial_rotary_factor", 1.0) != 1.0:
            raise keys.refusal(f"{name}.partial_rotary_factor", inner["partial_rotary_factor"], "1.0")
        theta = Keys(keys.path, inner).get("rope_theta", float, theta)
    keys.expect("partial_rotary_factor", 1.0, default=1.0)
    return theta


def weights(config: ModelConfig) -> list[Weight]:
    """See `nanollama.exchange.architectures.Architecture`."""
    query, key, width = (
        config.query_heads * config.head_width,
        config.kv_heads * config.head_width,
        config.d_model,
    )
    table = [
        Weight("embedding.weight", {"model.embed_tokens.weight": config.vocab_size}),
        Weight("norm.weight", {"model.norm.weight": width}),
    ]
    for layer in range(config.n_layers):
        there, here = f"model.layers.{layer}", f"blocks.{layer}"
        attention, mlp = f"{there}.self_attn", f"{there}.mlp"
        table += [
            Weight(f"{here}.attention_norm.weight", {f"{there}.input_layernorm.weight": width}),
            Weight(f"{here}.mlp_norm.weight", {f"{there}.post_attention_layernorm.weight": width}),
        ]
        for kind in ("weight", "bias") if config.bias else ("weight",):
            qkv = {"q_proj": query, "k_proj": key, "v_proj": key}
            gates = {"gate_proj": config.mlp_width, "up_proj": config.mlp_width}
            table += [
                Weight(
                    f"{here}.attention.qkv.{kind}",
                    {f"{attention}.{name}.{kind}": n for name, n in qkv.items()},
                ),
                Weight(f"{here}.attention.output.{kind}", {f"{attention}.o_proj.{kind}": width}),
                Weight(
                    f"{here}.mlp.gate_up.{kind}", {f"{mlp}.{name}.{kind}": n for name, n in gates.items()}
                ),
                Weight(f"{here}.mlp.down.{kind}", {f"{mlp}.down_proj.{kind}": width}),
            ]
    return table
