"""What recurrent mixers share: a window of tokens just read, a recurrence that minds documents and rows.

Shapes: B rows, T tokens, C channels, K taps, E width of the recurrence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nanollama.model.convolution import causal_convolution
from nanollama.model.mixers.mixer import Context
from nanollama.model.scan import linear_scan
from nanollama.model.state import LayerState


@dataclass
class RecurrentState(LayerState):
    """All that a recurrent layer remembers; it does not grow with what was read.

    Attributes:
        window: (B, K - 1, C), what its convolution read last; 0 before the first token.
        hidden: (B, ...), what it carries from token to token.
    """

    window: Tensor
    hidden: Tensor


def state_of(layer: int, context: Context) -> RecurrentState | None:
    """What a layer has read before; None when nothing is decoded."""
    if context.state is None:
        return None
    state = context.state.layers[layer]
    assert isinstance(state, RecurrentState)
    return state


def padding(n_tokens: int, context: Context) -> Tensor | None:
    """(B, T) bool, tokens that do not count; None when all do."""
    if context.n_new is None:
        return None
    return torch.arange(n_tokens, device=context.n_new.device) >= context.n_new[:, None]


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers, in which sums over many tokens stay exact enough."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class ShortConvolution(nn.Module):
    """A causal filter a channel over the last few tokens of a document."""

    def __init__(self, n_channels: int, n_taps: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.empty(n_channels, n_taps))
        self.bias = nn.Parameter(torch.empty(n_channels))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Taps as torch draws those of a convolution; no bias."""
        limit = self.taps.shape[1] ** -0.5
        self.taps.uniform_(-limit, limit, generator=generator)
        self.bias.zero_()

    def make_window(self, n_rows: int, device: torch.device) -> Tensor:
        """What rows hold that have read nothing: (B, K - 1, C)."""
        n_channels, n_taps = self.taps.shape
        return torch.zeros(n_rows, n_taps - 1, n_channels, dtype=self.taps.dtype, device=device)

    def forward(self, x: Tensor, context: Context, state: RecurrentState | None) -> Tensor:
        """(B, T, C) to the same, at least float32; moves the window of a state on."""
        if state is None:
            is_packed = context.documents is not None and isinstance(context.positions, Tensor)
            positions = context.positions if is_packed else None
            assert not isinstance(positions, slice)
            return causal_convolution(x, self.taps, self.bias, positions)
        n_before = state.window.shape[1]
        known = torch.cat([state.window, x.to(state.window.dtype)], dim=1)
        result = causal_convolution(known, self.taps, self.bias)[:, n_before:]
        if context.n_new is None:
            state.window.copy_(known[:, known.shape[1] - n_before :])
        else:
            last = context.n_new[:, None] + torch.arange(n_before, device=x.device)
            state.window.copy_(known.gather(1, last[:, :, None].expand(-1, -1, known.shape[2])))
        return result


def recur(decay: Tensor, values: Tensor, context: Context, state: RecurrentState | None) -> Tensor:
    """h_t = decay_t h_{t-1} + values_t in each document: (B, T, E) all; moves a state on."""
    if context.opens is not None:
        decay = decay.masked_fill(context.opens[:, :, None], 0.0)
    padded = padding(values.shape[1], context)
    if padded is not None:  # a step that changes nothing
        decay, values = (
            decay.masked_fill(padded[:, :, None], 1.0),
            values.masked_fill(padded[:, :, None], 0.0),
        )
    hidden = linear_scan(decay, values, None if state is None else state.hidden)
    if state is not None:
        state.hidden.copy_(hidden[:, -1])
    return hidden
