"""How much of what there is to know a model holds in its weights, in bits (arXiv 2404.05405).

There are H bits to know about a person: 31.25 where facts are uniform and independent (`bits_per_person`),
fewer where they depend on the last name (`apps.memory.dataset.dependent`). A model that gives the right
values a loss of p nats, summed over the bytes of a person's four values, lacks p / ln 2 of them. N people
and P parameters make

    R = N * (H - p / ln 2) / P

bits a parameter. It never exceeds the bits of a weight, 32 in float32; the paper saw about 2 after 1,000
exposures a fact, 1 after 100. It is negative for a model that is surer of wrong values than one that guesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from apps.memory.dataset.people import ATTRIBUTES


def value_loss_nats(answer: str, loss_nats: np.ndarray) -> float:
    """Cross entropy of the bytes of an answer's value.

    Args:
        answer: the value, which the dialog ends with but for a full stop.
        loss_nats: of each token the assistant writes; the last two are the full stop and ``<end>``.
    """
    return float(loss_nats[-2 - len(answer.encode()) : -2].sum(dtype=np.float64))


def capacity(
    value_losses_nats: Sequence[float], n_people: int, n_params: int, bits_per_person: float
) -> dict[str, float]:
    """What a model knows, per parameter and per fact.

    Args:
        value_losses_nats: of facts, as many of each attribute, as a sample of what was learned.
        n_people: learned from.
        n_params: of the model.
        bits_per_person: H above.

    Returns:
        ``bits_per_parameter`` (R above) and ``bits_per_fact``, of the H / 4 that a fact has on average.
    """
    lost_bits = float(np.mean(value_losses_nats)) / math.log(2)
    bits_per_fact = bits_per_person / len(ATTRIBUTES) - lost_bits
    bits_per_parameter = n_people * len(ATTRIBUTES) * bits_per_fact / n_params
    return {"bits_per_parameter": bits_per_parameter, "bits_per_fact": bits_per_fact}
