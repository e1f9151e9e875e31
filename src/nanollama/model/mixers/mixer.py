"""What a mixer is given and has to give.

Shapes: B rows, T tokens, M queries (positions whose next token is asked for),
D d_model, S keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nanollama.model.config import ModelConfig
from nanollama.model.positions import Positions
from nanollama.model.state import DecodingState, LayerState


@dataclass(frozen=True)
class Attended:
    """What mixers that attend are told.

    Args:
        mask: (B, 1, T, S) bool, which keys each token may see; None: as ``causal`` says.
        rotary: cosines and sines at the positions; None where positions are not rotary.
    """

    mask: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Context:
    """What the blocks of one forward pass share.

    Args:
        positions: of the tokens in their documents; (B, T) int64 in packed rows and when decoding. The first
            token of a document stands at 0: there, a mixer starts anew.
        documents: (B, T) document of each token in packed rows, between which nothing may leak; None when
            rows hold one document, as they do when decoding.
        attended: for attention; None where no mixer of the model attends.
        state: what the layers have read before these tokens; None when nothing is decoded.
    """

    positions: Positions
    documents: Tensor | None = None
    attended: Attended | None = Attended()
    state: DecodingState | None = None

    @property
    def mask(self) -> Tensor | None:
        """See `Attended`."""
        return self._told().mask

    @property
    def rotary(self) -> tuple[Tensor, Tensor] | None:
        """See `Attended`."""
        return self._told().rotary

    def _told(self) -> Attended:
        if self.attended is None:
            raise ValueError(
                "A mixer reads mask or rotary of its context, and none of this model was registered as one "
                "that attends: give register_mixer(..., attends=True)."
            )
        return self.attended

    @property
    def n_new(self) -> Tensor | None:
        """(B,) int64, when decoding: tokens of each row that count. What stands behind them is padding, by
        which no state may move. None: all count."""
        return None if self.state is None else self.state.n_new

    @property
    def opens(self) -> Tensor | None:
        """(B, T) bool, the first token of each document in packed rows; None when rows hold one document."""
        return None if self.documents is None or isinstance(self.positions, slice) else self.positions == 0


class Mixer(nn.Module, ABC):
    """One layer of what mixes tokens: a block gives it the normed stream and adds what it returns.

    It is built as ``Mixer(config, layer)``, layers counting from 0. Its maps (`nn.Linear`), norms (LayerNorm,
    RMSNorm) and embeddings are drawn by the shell; what else it has, it sets in `init_weights`.
    """

    name: ClassVar[str]
    """What it is called inside a block, and so in the names of parameters: ``blocks.0.attention``."""
    output: nn.Linear
    """The map that writes to the stream; initial weights are scaled down there."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer

    @abstractmethod
    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        """What is added to the stream: (B, T, D) -> (B, T, D), or (B, M, D) when only these positions go on.

        Args:
            x: the normed stream.
            context: with a state, tokens follow those that ``context.state.layers[self.layer]`` has seen, and
                they are read into it, in place.
            query_positions: (B, M), among the T tokens.
        """

    @abstractmethod
    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> LayerState:
        """What this layer remembers of dialogs of which nothing is read yet.

        Args:
            n_rows: dialogs side by side.
            capacity: tokens that each may come to.
            device: where it lies; ``meta`` when only its size is asked for.
        """

    @abstractmethod
    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        """Floating-point operations of the matrix products of one row, a multiply-add as two.

        Args:
            seq_len: tokens of the row.
            n_queries: positions that go on.
        """

    def init_weights(self, generator: torch.Generator) -> None:
        """Set parameters and buffers that are not those of a map, a norm or an embedding, or not as usual.

        It is called when the rest of the model is drawn; parameters that neither sets are refused. The
        generator is of the CPU.
        """


def gather(x: Tensor, positions: Tensor) -> Tensor:
    """Rows of x (B, T, D) at positions (B, M): (B, M, D)."""
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[-1]))
