"""What a model is to all that is not a model: the loop, decoding, evaluators, probes, reports.

They ask for what is written here and for what every `nn.Module` has (named parameters, modes, hooks), never
for a class or a part of one model.

Shapes: B rows, T tokens, M queries (positions whose next token is asked for),
V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nanollama.errors import UserError
from nanollama.model.state import DecodingState


class LanguageModel(nn.Module, ABC):
    """Token ids to logits. Build one with `nanollama.model.build_model`."""

    vocab_size: int
    """Number of token ids."""
    max_seq_len: int
    """Longest document, in tokens; packed rows may be longer."""

    @abstractmethod
    def forward(
        self,
        input_ids: Tensor,
        query_positions: Tensor | None = None,
        documents: Tensor | None = None,
        state: DecodingState | None = None,
    ) -> Tensor:
        """Logits (B, M, V) in float32 at the queried positions, (B, T, V) without ``query_positions``.

        Args:
            input_ids: (B, T) int64.
            query_positions: (B, M) positions in ``input_ids``; behind the last mixer, only they go on.
            documents: (B, T) document of each token in packed rows; not together with a state.
            state: what was read before; ``input_ids`` follow and are read into it. The caller then calls
                ``state.advance``.

        Raises:
            UserError: rows that are not packed have more tokens than ``max_seq_len``.
        """

    @abstractmethod
    def make_state(self, n_rows: int, capacity: int) -> DecodingState:
        """The state of dialogs of which nothing is read yet, on the model's device.

        Args:
            n_rows: dialogs side by side.
            capacity: tokens that each may come to.

        Raises:
            UserError: the model cannot write token by token, for it is not causal, or reads fewer tokens.
        """

    @abstractmethod
    def state_bytes(self, capacity: int) -> int:
        """Memory of one row of a state with this capacity."""

    @abstractmethod
    def forward_flops(self, seq_len: int, n_queries: int | None = None) -> int:
        """Floating-point operations of the matrix products of one row's forward pass, a multiply-add as two.

        A training step costs three times as much.

        Args:
            seq_len: tokens of the row.
            n_queries: positions whose next token is asked for; None: all.
        """

    @abstractmethod
    def init_weights(self, generator: torch.Generator) -> None:
        """Set all parameters and buffers to what a run starts from, drawn from a generator of the CPU.

        The model may come from the meta device (``to_empty``): nothing is left unset.
        """

    def check_drawn(self) -> None:
        """Refuse weights that no seed has drawn.

        Raises:
            ValueError: a mixer has left some of its own unset.
        """

    def check_length(self, n_tokens: int) -> None:
        """Refuse what is longer than ``max_seq_len``, where positions come to an end there.

        Raises:
            UserError: it is.
        """
        if n_tokens > self.max_seq_len:
            raise UserError(
                f"The model reads at most {self.max_seq_len} tokens and is given {n_tokens}: set "
                f"model.max_seq_len to {n_tokens} or more where it is trained, or give it less."
            )

    def n_params(self) -> int:
        """Number of parameters; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.parameters()).device
