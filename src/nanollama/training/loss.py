"""The loss of a language model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nanollama.data.batch import IGNORE, Batch


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross entropy, in nats, summed over the batch's targets that carry loss: a float32 scalar.

    Args:
        model: gives logits (B, M, V) at the queried positions of ``input_ids`` (B, T).
        batch: see `nanollama.data.batch.Batch`.
    """
    logits = model(batch.input_ids, query_positions=batch.query_positions, documents=batch.documents)
    return F.cross_entropy(
        logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
