"""Our transformer with LayerNorm, GELU and learned positions is Hugging Face's GPT-2."""

from __future__ import annotations

from typing import Any

from nanollama.exchange.keys import Keys
from nanollama.exchange.weights import Weight
from nanollama.model.config import ModelConfig

NEEDS: dict[str, tuple[Any, ...]] = {
    "causal": (True,),
    "norm": ("layer",),
    "mlp": ("gelu", "gelu_tanh"),
    "positions": ("learned",),
    "residual": ("stream",),
}
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
"""Names of MLPs, by what Hugging Face calls their activations."""


def misfit(config: ModelConfig) -> str | None:
    """See `nanollama.exchange.architectures.Architecture`."""
    if config.kv_heads != config.query_heads:
        return f"model.n_kv_heads = {config.n_kv_heads} (it needs as many as model.n_heads)"
    if config.query_heads * config.head_width != config.d_model:
        return f"model.head_dim = {config.head_dim} (it needs d_model / n_heads)"
    if config.position_width != config.d_model:
        return f"model.position_dim = {config.position_dim} (it needs d_model)"
    return None


def write(config: ModelConfig) -> dict[str, Any]:
    """See `nanollama.exchange.architectures.Architecture`."""
    on_embeddings = config.embedding_dropout
    return {
        "n_embd": config.d_model,
        "n_inner": config.mlp_width,
        "n_layer": config.n_layers,
        "n_head": config.query_heads,
        "n_positions": config.max_seq_len,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": {"gelu": "gelu", "gelu_tanh": "gelu_new"}[config.mlp],
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout if on_embeddings is None else on_embeddings,
        "attn_pdrop": 0.0,
    }


def read(keys: Keys) -> dict[str, Any]:
    """See `nanollama.exchange.architectures.Architecture`; ``attn_pdrop``, of training, is left out."""
    activation = keys.expect("activation_function", *ACTIVATIONS, default="gelu_new")
    keys.expect("scale_attn_weights", True, default=True)
    keys.expect("scale_attn_by_inverse_layer_idx", False, default=False)
    keys.expect("add_cross_attention", False, default=False)
    width = keys.get("n_embd", int)
    return {
        "d_model": width,
        "d_ff": keys.get("n_inner", int, 4 * width),
        "n_layers": keys.get("n_layer", int),
        "n_heads": keys.get("n_head", int),
        "max_seq_len": keys.get("n_positions", int, 1024),
        "norm_eps": keys.get("layer_norm_epsilon", float, 1e-5),
        "dropout": keys.get("resid_pdrop", float, 0.1),
        "embedding_dropout": keys.get("embd_pdrop", float, 0.1),
        "bias": True,
        "norm": "layer",
        "mlp": ACTIVATIONS[activation],
        "positions": "learned",
    }


def weights(config: ModelConfig) -> list[Weight]:
    """See `nanollama.exchange.architectures.Architecture`; without ``bias``, theirs are 0."""
    width = config.d_model
    table = [
        Weight("embedding.weight", {"transformer.wte.weight": config.vocab_size}),
        Weight("position_embedding.weight", {"transformer.wpe.weight": config.max_seq_len}),
        Weight("norm.weight", {"transformer.ln_f.weight": width}),
        Weight("norm.bias", {"transformer.ln_f.bias": width}),
    ]
    maps = {
        "attention.qkv": ("attn.c_attn", 3 * width),
        "attention.output": ("attn.c_proj", width),
        "mlp.up": ("mlp.c_fc", config.mlp_width),
        "mlp.down": ("mlp.c_proj", width),
    }
    norms = {"attention_norm": "ln_1", "mlp_norm": "ln_2"}
    for layer in range(config.n_layers):
        there, here = f"transformer.h.{layer}", f"blocks.{layer}"
        for ours, theirs in norms.items():
            for kind in ("weight", "bias"):
                table.append(Weight(f"{here}.{ours}.{kind}", {f"{there}.{theirs}.{kind}": width}))
        for ours, (theirs, n_rows) in maps.items():
            table.append(Weight(f"{here}.{ours}.weight", {f"{there}.{theirs}.weight": n_rows}, "transposed"))
            table.append(Weight(f"{here}.{ours}.bias", {f"{there}.{theirs}.bias": n_rows}))
    return table
