"""Mamba2 (arXiv 2405.21060): a state space model with a matrix a head as state, and gates that see the input.

As published, with one group of keys and queries. `nanollama.model.ssd` computes it on every device; the
kernels of the package mamba_ssm do where they are installed, for whole rows on a GPU.

Shapes: B rows, T tokens, M queries, D d_model, E width of all heads, H heads, P width of a head, N d_state.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.model.config import ModelConfig
from nanollama.model.mixers.kernels import chunk_scan
from nanollama.model.mixers.mixer import Context, Mixer, gather
from nanollama.model.mixers.recurrence import (
    RecurrentState,
    ShortConvolution,
    at_least_float32,
    padding,
    state_of,
)
from nanollama.model.ssd import ssd

STEPS = (1e-3, 1e-1)
"""Initial steps are spread evenly over these, on a logarithmic scale."""
RATES = (1.0, 16.0)
"""So are minus the initial rates, on a linear one."""
KERNEL_CHUNK = 256  # what the kernels are tuned for


class Mamba2(Mixer):
    """Project, convolve, read and write the states, gate, norm, project."""

    name: ClassVar[str] = "mamba2"

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.width, self.head_dim, self.d_state = config.recurrent_width, config.head_width, config.d_state
        self.n_heads, self.chunk_size = self.width // self.head_dim, config.chunk_size
        n_convolved = self.width + 2 * self.d_state
        self.input = nn.Linear(config.d_model, self.width + n_convolved + self.n_heads, bias=config.bias)
        self.convolution = ShortConvolution(n_convolved, config.conv_size)
        self.dt_bias = nn.Parameter(torch.empty(self.n_heads))
        self.A_log = nn.Parameter(torch.empty(self.n_heads))
        self.D = nn.Parameter(torch.empty(self.n_heads))
        self.norm = nn.RMSNorm(self.width, eps=config.norm_eps)
        self.output = nn.Linear(self.width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        state = state_of(self.layer, context)
        gate, x, steps = self.input(x).split(
            [self.width, self.width + 2 * self.d_state, self.n_heads], dim=-1
        )
        convolved = F.silu(self.convolution(x, context, state))
        steps = F.softplus(at_least_float32(steps) + self.dt_bias)
        read = self._read(convolved, steps, context, state).flatten(2)
        if query_positions is not None:
            gate, read = gather(gate, query_positions), gather(read, query_positions)
        return self.output(self.norm(read * F.silu(at_least_float32(gate))))

    def _read(
        self, convolved: Tensor, steps: Tensor, context: Context, state: RecurrentState | None
    ) -> Tensor:
        """What the heads read: (B, T, H, P)."""
        values, keys, queries = convolved.split([self.width, self.d_state, self.d_state], dim=-1)
        values, rates = values.unflatten(-1, (self.n_heads, -1)), -self.A_log.exp()
        kernel = chunk_scan(values.device.type) if state is None else None
        if kernel is not None:
            documents = None if context.opens is None else context.opens.cumsum(1, dtype=torch.int32)
            groups = keys[:, :, None], queries[:, :, None]
            return kernel(values, steps, rates, *groups, KERNEL_CHUNK, D=self.D, seq_idx=documents)
        padded = padding(values.shape[1], context)
        if padded is not None:  # a step of 0 changes nothing
            steps = steps.masked_fill(padded[:, :, None], 0.0)
        before = None if state is None else state.hidden
        read, after = ssd(
            values,
            steps,
            rates,
            keys,
            queries,
            self.D,
            chunk_size=self.chunk_size,
            state=before,
            opens=context.opens,
        )
        if state is not None:
            state.hidden.copy_(after)
        return read

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """See `Mixer.init_weights`."""
        self.convolution.init_weights(generator)
        smallest, largest = (math.log(step) for step in STEPS)
        steps = torch.empty(self.n_heads).uniform_(smallest, largest, generator=generator).exp()
        self.dt_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus gives the steps back
        self.A_log.copy_(torch.empty(self.n_heads).uniform_(*RATES, generator=generator).log())
        self.D.fill_(1.0)

    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> RecurrentState:
        """See `Mixer.make_state`."""
        shape = (n_rows, self.n_heads, self.d_state, self.head_dim)
        hidden = torch.zeros(shape, dtype=self.D.dtype, device=device)
        return RecurrentState(self.convolution.make_window(n_rows, device), hidden)

    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        """Within a chunk, every pair of tokens counts, and so does what fills the last chunk."""
        chunk_size = min(self.chunk_size, seq_len)
        n_chunks = -(-seq_len // chunk_size)
        within = chunk_size * (self.d_state + self.width)  # of keys and queries, of values
        states = 2 * self.d_state * self.width  # written and read
        maps = seq_len * self.input.weight.numel() + n_queries * self.output.weight.numel()
        return 2 * (maps + n_chunks * chunk_size * (within + states))
