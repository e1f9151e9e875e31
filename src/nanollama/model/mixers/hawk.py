"""Hawk: the recurrent block of Griffin (arXiv 2402.19427, sections 2.2-2.4), around an RG-LRU.

A token makes a branch, by GeLU, and an input, by a short convolution and the recurrence; their product goes
on. Gates are block-diagonal maps of the convolved input.

Shapes: B rows, T tokens, M queries, D d_model, E width of the recurrence, G blocks of a gate.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.config import ModelConfig
from nanollama.model.mixers.mixer import Context, Mixer, gather
from nanollama.model.mixers.recurrence import (
    RecurrentState,
    ShortConvolution,
    at_least_float32,
    recur,
    state_of,
)

SHARPNESS = 8.0
"""c in the paper: decays are between a ** c and 1."""
DECAYS = (0.9, 0.999)
"""Initial a ** c are spread evenly over these."""
SMALLEST = 1e-30
"""Of the square of an input's weight: the slope of its root, at a decay of 1, has to be a number."""


class Hawk(Mixer):
    """A gated recurrence with decays that depend on the input."""

    name: ClassVar[str] = "hawk"

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.width, self.n_blocks = config.recurrent_width, config.n_heads or 1
        self.input = nn.Linear(config.d_model, 2 * self.width, bias=config.bias)
        self.convolution = ShortConvolution(self.width, config.conv_size)
        block = self.width // self.n_blocks
        self.gates = nn.Parameter(torch.empty(self.n_blocks, block, 2 * block))
        self.gate_bias = nn.Parameter(torch.empty(2 * self.width))
        self.decay = nn.Parameter(torch.empty(self.width))
        self.output = nn.Linear(self.width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        state = state_of(self.layer, context)
        branch, x = self.input(x).chunk(2, dim=-1)
        hidden = recur(*self.decay_and_values(self.convolution(x, context, state)), context, state)
        if query_positions is not None:
            branch, hidden = gather(branch, query_positions), gather(hidden, query_positions)
        return self.output(F.gelu(branch) * hidden)

    def decay_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The RG-LRU's decays and inputs of a convolved input, (B, T, E) each (equations 1 to 4)."""
        blocks = x.unflatten(-1, (self.n_blocks, -1))
        gates = torch.einsum("btgi,gio->btgo", blocks, self.gates)
        gates = at_least_float32(torch.cat([gate.flatten(2) for gate in gates.chunk(2, dim=-1)], dim=-1))
        forget, write = (gates + self.gate_bias).sigmoid().chunk(2, dim=-1)
        log_decay = SHARPNESS * forget * F.logsigmoid(self.decay)
        weight = (-torch.expm1(2 * log_decay)).clamp(min=SMALLEST).sqrt()
        return log_decay.exp(), weight * write * x

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """See `Mixer.init_weights`."""
        self.convolution.init_weights(generator)
        self.gates.normal_(0.0, self.gates.shape[1] ** -0.5, generator=generator)
        self.gate_bias.zero_()
        slowest = torch.empty(self.width).uniform_(*DECAYS, generator=generator).double()
        self.decay.copy_(torch.logit(slowest ** (1 / SHARPNESS)))

    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> RecurrentState:
        """See `Mixer.make_state`."""
        hidden = torch.zeros(n_rows, self.width, dtype=self.decay.dtype, device=device)
        return RecurrentState(self.convolution.make_window(n_rows, device), hidden)

    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        """See `Mixer.forward_flops`."""
        maps = self.input.weight.numel() + self.gates.numel()
        return 2 * (seq_len * maps + n_queries * self.output.weight.numel())
