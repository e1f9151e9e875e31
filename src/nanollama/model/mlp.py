"""MLPs, by the name that a config gives as ``mlp``; ``down`` is the map that writes to the stream."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.config import ModelConfig


class SwiGLU(nn.Module):
    """Gated MLP (arXiv 2002.05202): down(silu(gate(x)) * up(x)); one matrix makes gate and up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.mlp_width, bias=config.bias)
        self.down = nn.Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class GeluMLP(nn.Module):
    """Plain MLP: down(gelu(up(x))); ``gelu_tanh`` is GPT-2's approximation of gelu (arXiv 1606.08415)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.approximate = "tanh" if config.mlp == "gelu_tanh" else "none"
        self.up = nn.Linear(config.d_model, config.mlp_width, bias=config.bias)
        self.down = nn.Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate=self.approximate))


MLPS: dict[str, type[SwiGLU] | type[GeluMLP]] = {"swiglu": SwiGLU, "gelu": GeluMLP, "gelu_tanh": GeluMLP}
