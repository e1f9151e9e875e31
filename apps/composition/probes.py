"""What the MLPs compute: can a linear map read it, before and after them?

The first MLP of the circuit should turn two positions, L + 1 + k here and L + 1 of the end of input, into the
step k. A linear probe is fitted on some pairs (L, k) and tested on others of every length, so that it cannot
know them by heart. Its control reads a random label of each pair: what it gets right there, it gets right by
chance, of which pairs as few as these need the mean over many draws. The second should turn the old state and
the input into the new state; the control's labels are shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from apps.composition.heads import Circuit
from apps.composition.measures import Group
from nanollama.model.probe import linear_probe_accuracy, mlp_layers, recorded_outputs
from nanollama.model.protocol import LanguageModel

EVERY = 4  # one pair (L, k) of each length, or one sequence, in so many is kept for the test
N_CONTROLS = 20  # random labels that a control is the mean of


@dataclass(frozen=True)
class ProbeResult:
    """How well a linear map reads a quantity at a place.

    Args:
        quantity: what is read.
        place: where it is read.
        accuracy: share of right labels on what it was not fitted on.
        control: the same for random labels, mean over `N_CONTROLS` of them.
        n_test: pairs (L, k), or sequences, that it was not fitted on.
    """

    quantity: str
    place: str
    accuracy: float
    control: float
    n_test: int


@dataclass(frozen=True)
class Reading:
    """Activations after the end of input, row by row, and what they are about.

    Args:
        activations: (n, D) by layer and whether ``before`` or ``after`` its MLP.
        length: (n,) inputs L of the sequence.
        step: (n,) k: the query stands at L + 1 + k.
        answer: (n,) token to predict.
        sequence: (n,) number of the sequence.
    """

    activations: dict[tuple[int, str], Tensor]
    length: Tensor
    step: Tensor
    answer: Tensor
    sequence: Tensor


def has_mlps(model: LanguageModel, circuit: Circuit) -> bool:
    """Have both layers of a circuit an MLP that can be looked at?"""
    return {circuit.eoi[0], circuit.iteration[0]} <= set(mlp_layers(model))


@torch.no_grad()
def probe_circuit(model: LanguageModel, groups: Sequence[Group], circuit: Circuit) -> list[ProbeResult]:
    """Probes before and after the MLPs of the two layers of a circuit, on groups of iterations.

    The step is not read where there is one length: every other length is needed to know its steps from.
    """
    first, second = circuit.eoi[0], circuit.iteration[0]
    reading = read(model, groups, (first, second))
    generator = torch.Generator().manual_seed(0)
    pair = reading.length * (int(reading.step.max()) + 1) + reading.step
    pairs = torch.tensor(sorted(held_out_pairs([group.length for group in groups], generator)))
    n_labels = int(reading.step.max()) + 1
    random_steps = [
        torch.randint(n_labels, (int(pair.max()) + 1,), generator=generator)[pair] for _ in range(N_CONTROLS)
    ]
    shuffled = [
        reading.answer[torch.randperm(len(reading.answer), generator=generator)] for _ in range(N_CONTROLS)
    ]
    results = []
    if len(pairs):
        kept = torch.isin(pair, pairs[:, 0] * n_labels + pairs[:, 1])
        for when in ("before", "after"):
            found = _fit(reading.activations[first, when], kept, reading.step, random_steps)
            results.append(ProbeResult("step k", f"{when} the MLP of blocks.{first}", *found, len(pairs)))
    kept = reading.sequence % EVERY == 0
    n_sequences = len(reading.sequence[kept].unique())
    for when in ("before", "after"):
        found = _fit(reading.activations[second, when], kept, reading.answer, shuffled)
        results.append(ProbeResult("next state", f"{when} the MLP of blocks.{second}", *found, n_sequences))
    return results


def held_out_pairs(lengths: Sequence[int], generator: torch.Generator) -> list[tuple[int, int]]:
    """Pairs (L, k) to test on: of each length one step in `EVERY`, drawn among those that others still show.

    A step that no other pair shows cannot be learned, and stays with what is fitted on.
    """
    lengths = sorted(set(lengths))
    n_shown = [sum(length >= step for length in lengths) for step in range(max(lengths) + 1)]
    chosen = []
    for length in lengths:
        steps = torch.randperm(length + 1, generator=generator).tolist()
        shown = [step for step in steps if n_shown[step] > 1][: -(-(length + 1) // EVERY)]
        for step in shown:
            n_shown[step] -= 1
        chosen += [(length, step) for step in shown]
    return chosen


@contextmanager
def recorded_around_mlps(
    model: LanguageModel, layers: Sequence[int]
) -> Iterator[dict[tuple[int, str], Tensor]]:
    """Collects what the MLPs of layers read in the last forward pass inside, and what their blocks return.

    An MLP reads the normed stream, or the stream itself where norms stand behind the sums.
    """
    found: dict[tuple[int, str], Tensor] = {}

    def recorder(layer: int) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[layer, "before"] = inputs[0].detach()

        return hook

    with ExitStack() as stack:
        for layer in layers:
            mlp = model.get_submodule(f"blocks.{layer}.mlp")
            stack.callback(mlp.register_forward_pre_hook(recorder(layer)).remove)
        blocks = {f"blocks.{layer}": layer for layer in layers}
        with recorded_outputs(model, blocks) as outputs:
            yield found
        found |= {(layer, "after"): outputs[name] for name, layer in blocks.items() if name in outputs}


def read(model: LanguageModel, groups: Sequence[Group], layers: Sequence[int]) -> Reading:
    """Activations around the MLPs of layers at the queries from the end of input on."""
    places = [(layer, when) for layer in layers for when in ("before", "after")]
    parts: dict[tuple[int, str], list[Tensor]] = {place: [] for place in places}
    lengths, steps, answers, sequences = [], [], [], []
    n_sequences = 0
    for group in groups:
        with recorded_around_mlps(model, layers) as outputs:
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


def _fit(x: Tensor, kept: Tensor, label: Tensor, controls: Sequence[Tensor]) -> tuple[float, float]:
    """Accuracy on what was kept, for the true labels, and the mean of that for random ones."""
    of_controls = [_accuracy(x, kept, control) for control in controls]
    return _accuracy(x, kept, label), float(torch.tensor(of_controls).nanmean())


def _accuracy(x: Tensor, kept: Tensor, label: Tensor) -> float:
    """Accuracy on what was kept; nan where none of its labels was ever shown."""
    known = torch.zeros(int(label.max()) + 1, dtype=torch.bool)
    known[label[~kept]] = True
    fair = kept & known[label]  # a label that was never shown cannot be read
    return linear_probe_accuracy((x[~kept], label[~kept]), (x[fair], label[fair]))
