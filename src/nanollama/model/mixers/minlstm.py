"""minLSTM (arXiv 2410.01201, section 3.2): an LSTM whose gates do not look at the state.

Its gates are normalised, so that the scale of the state does not depend on time; in the plain form, without
logarithms of states.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nanollama.model.mixers.mingru import MinRecurrence


class MinLSTM(MinRecurrence):
    """h_t = f_t / (f_t + i_t) h_{t-1} + i_t / (f_t + i_t) c_t, where f_t = sigmoid(W_f x_t),
    i_t = sigmoid(W_i x_t) and c_t = W_c x_t."""

    name: ClassVar[str] = "minlstm"
    n_gates: ClassVar[int] = 3

    def decay_and_values(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """See `MinRecurrence.decay_and_values`.

        f / (f + i) is the sigmoid of log f - log i, which is a number even where f and i are both 0.
        """
        forget, write, candidate = gates
        difference = F.logsigmoid(forget) - F.logsigmoid(write)
        return torch.sigmoid(difference), torch.sigmoid(-difference) * candidate
