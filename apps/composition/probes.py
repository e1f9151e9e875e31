"""What the MLPs compute: can a linear map read it, before and after them?

The first MLP of the circuit should turn two positions, L + 1 + k here and L + 1 of the end of input, into the
step k. A linear probe is fitted on some pairs (L, k) and tested on others, so that it cannot know them by
heart. Its control reads a random label of each pair: what it gets right there, it gets right by chance.
The second should turn the old state and the input into the new state; the control's labels are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apps.composition.heads import Circuit
from apps.composition.measures import Group
from nanollama.model.probe import linear_probe_accuracy, recorded_outputs
from nanollama.model.protocol import LanguageModel

EVERY = 4  # one pair (L, k), or one sequence, in so many is kept for the test


@dataclass(frozen=True)
class ProbeResult:
    """How well a linear map reads a quantity at a place.

    Args:
        quantity: what is read.
        place: where it is read.
        accuracy: share of right labels on what it was not fitted on.
        control: the same for random labels.
    """

    quantity: str
    place: str
    accuracy: float
    control: float


@dataclass(frozen=True)
class Reading:
    """Activations after the end of input, row by row, and what they are about.

    Args:
        activations: (n, D) by place.
        length: (n,) inputs L of the sequence.
        step: (n,) k: the query stands at L + 1 + k.
        answer: (n,) token to predict.
        sequence: (n,) number of the sequence.
    """

    activations: dict[str, Tensor]
    length: Tensor
    step: Tensor
    answer: Tensor
    sequence: Tensor


@torch.no_grad()
def probe_circuit(model: LanguageModel, groups: Sequence[Group], circuit: Circuit) -> list[ProbeResult]:
    """Probes before and after the MLPs of the two layers of a circuit, on groups of iterations."""
    first, second = f"blocks.{circuit.eoi[0]}", f"blocks.{circuit.iteration[0]}"
    places = [f"{block}.mlp_norm" for block in (first, second)] + [first, second]
    reading = read(model, [group for group in groups if group.is_iteration], places)
    generator = torch.Generator().manual_seed(0)
    pair = reading.length * (int(reading.step.max()) + 1) + reading.step
    n_labels = int(reading.step.max()) + 1
    random_step = torch.randint(n_labels, (int(pair.max()) + 1,), generator=generator)[pair]
    shuffled = reading.answer[torch.randperm(len(reading.answer), generator=generator)]
    results = []
    for place, when in ((f"{first}.mlp_norm", "before"), (first, "after")):
        kept = (reading.length + 2 * reading.step) % EVERY == 0
        x = reading.activations[place]
        results.append(
            ProbeResult("step k", f"{when} the MLP of {first}", *_fit(x, kept, (reading.step, random_step)))
        )
    for place, when in ((f"{second}.mlp_norm", "before"), (second, "after")):
        kept = reading.sequence % EVERY == 0
        x = reading.activations[place]
        results.append(
            ProbeResult(
                "next state", f"{when} the MLP of {second}", *_fit(x, kept, (reading.answer, shuffled))
            )
        )
    return results


def read(model: LanguageModel, groups: Sequence[Group], places: Sequence[str]) -> Reading:
    """Activations of submodules at the queries from the end of input on."""
    parts: dict[str, list[Tensor]] = {place: [] for place in places}
    lengths, steps, answers, sequences = [], [], [], []
    n_sequences = 0
    for group in groups:
        with recorded_outputs(model, places) as outputs:
            model(group.tokens[:, :-1].to(model.device))
        n_rows, n_queries = group.answers.shape
        for place in places:
            parts[place].append(outputs[place][:, group.length + 1 :].flatten(0, 1).cpu())
        lengths.append(torch.full((n_rows * n_queries,), group.length))
        steps.append(torch.arange(n_queries).repeat(n_rows))
        answers.append(group.answers.flatten())
        sequences.append(n_sequences + torch.arange(n_rows).repeat_interleave(n_queries))
        n_sequences += n_rows
    return Reading(
        {place: torch.cat(tensors) for place, tensors in parts.items()},
        *(torch.cat(tensors) for tensors in (lengths, steps, answers, sequences)),
    )


def _fit(x: Tensor, kept: Tensor, labels: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Accuracy on what was kept, for the true labels and for the control's."""
    accuracies = []
    for label in labels:
        n_labels = int(label.max()) + 1
        known = torch.zeros(n_labels, dtype=torch.bool)
        known[label[~kept]] = True
        fair = kept & known[label]  # a label that was never shown cannot be read
        accuracies.append(linear_probe_accuracy((x[~kept], label[~kept]), (x[fair], label[fair])))
    return accuracies[0], accuracies[1]
