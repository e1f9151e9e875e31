"""minGRU (arXiv 2410.01201, section 3.1): a GRU whose gate and candidate do not look at the state.

In the plain form, without logarithms, by a scan over the row; behind a short convolution, as in the paper's
language models.

Shapes: B rows, T tokens, M queries, D d_model, E width of the recurrence.
"""

from __future__ import annotations

from typing import ClassVar

import torch
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


class MinRecurrence(Mixer):
    """Convolution, gates, recurrence, output: what minGRU and minLSTM share."""

    n_gates: ClassVar[int]
    """Maps that are made of a token, the candidate included."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.width = config.recurrent_width
        self.convolution = ShortConvolution(config.d_model, config.conv_size)
        self.gates = nn.Linear(config.d_model, self.n_gates * self.width, bias=config.bias)
        self.output = nn.Linear(self.width, config.d_model, bias=config.bias)

    def decay_and_values(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of the state and what is added to it, (B, T, E) each, of as many maps of a token."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        state = state_of(self.layer, context)
        gates = at_least_float32(self.gates(self.convolution(x, context, state)))
        hidden = recur(*self.decay_and_values(*gates.chunk(self.n_gates, dim=-1)), context, state)
        return self.output(hidden if query_positions is None else gather(hidden, query_positions))

    def init_weights(self, generator: torch.Generator) -> None:
        """See `Mixer.init_weights`."""
        self.convolution.init_weights(generator)

    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> RecurrentState:
        """See `Mixer.make_state`."""
        hidden = torch.zeros(n_rows, self.width, dtype=self.output.weight.dtype, device=device)
        return RecurrentState(self.convolution.make_window(n_rows, device), hidden)

    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        """See `Mixer.forward_flops`."""
        return 2 * (seq_len * self.gates.weight.numel() + n_queries * self.output.weight.numel())


class MinGRU(MinRecurrence):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t, where z_t = sigmoid(W_z x_t) and c_t = W_c x_t."""

    name: ClassVar[str] = "mingru"
    n_gates: ClassVar[int] = 2

    def decay_and_values(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """See `MinRecurrence.decay_and_values`."""
        update, candidate = gates
        return torch.sigmoid(-update), torch.sigmoid(update) * candidate
