"""Causal tests of the circuit: put other attention maps in place of a model's own, or take parts out of it.

If the iteration head is what the model computes with, ideal maps in its place keep the accuracy, uniform ones
destroy it, and parts off the circuit can be taken out at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from apps.composition.data_config import DataConfig
from apps.composition.heads import Circuit, Pattern, ideal_maps, uniform_maps
from apps.composition.measures import Group, accuracy, predict
from nanollama.model.probe import (
    EditMaps,
    ablated_heads,
    ablated_mlps,
    attention_heads,
    edited_maps,
    mlp_layers,
)
from nanollama.model.protocol import LanguageModel

Change = Callable[[Group], AbstractContextManager[None]]
"""What is changed in the model while it reads a group."""


@dataclass(frozen=True)
class Effect:
    """What a change does.

    Args:
        change: its name.
        accuracy: share of right sequences, mean over tasks and lengths.
        accuracy_long: the same over the upper half of the lengths of the data.
    """

    change: str
    accuracy: float
    accuracy_long: float


@torch.no_grad()
def causal_effects(
    model: LanguageModel, config: DataConfig, groups: Sequence[Group], circuit: Circuit | None
) -> list[Effect]:
    """Every change, one at a time, on groups of sequences; the first row is the model as it is.

    Without a circuit (in a model with fewer than two layers that attend) only ablations and uniform maps are
    tried.
    """
    middle = (config.min_length + config.max_length) / 2
    effects = []
    for name, change in _changes(model, circuit):
        right = []
        for group in groups:
            with change(group):
                right.append((group.length, accuracy(predict(model, group), group)))
        everywhere = [value for _, value in right]
        long = [value for length, value in right if length > middle] or everywhere
        effects.append(Effect(name, sum(everywhere) / len(everywhere), sum(long) / len(long)))
    return effects


@torch.no_grad()
def causal_summary(
    model: LanguageModel, config: DataConfig, groups: Sequence[Group], circuit: Circuit
) -> dict[str, float]:
    """What is lost with ideal maps, and what is left above chance with uniform ones, on the longer sequences.

    Chance is to guess each output among the values of the task, and to end the sequence in its place. A
    sequence of one input is no test: uniform maps still show its input.

    Args:
        model: in evaluation mode.
        config: of the data.
        groups: sequences; those in the upper half of the lengths are used, all where there is one length.
        circuit: the heads whose maps are replaced.

    Returns:
        ``ideal_maps_loss`` and ``uniform_maps_over_chance`` with both heads replaced;
        ``ideal_iteration_map_loss`` with the head of the later layer replaced alone.
    """
    longer = [group for group in groups if 2 * group.length > config.min_length + config.max_length]
    groups = longer or groups
    heads: list[tuple[Pattern, tuple[int, int]]] = [("eoi", circuit.eoi), ("iteration", circuit.iteration)]
    changes: dict[str, Change] = {
        "own": lambda group: nullcontext(),
        "ideal": _with_ideal_maps(model, heads),
        "ideal iteration": _with_ideal_maps(model, heads[1:]),
        "uniform": _with_uniform_maps(model, [head for _, head in heads]),
    }
    found = {name: _accuracy_under(change, model, groups) for name, change in changes.items()}
    chances = [1.0 / config.tasks[group.task].n_values ** (group.answers.shape[1] - 1) for group in groups]
    return {
        "ideal_maps_loss": found["own"] - found["ideal"],
        "ideal_iteration_map_loss": found["own"] - found["ideal iteration"],
        "uniform_maps_over_chance": found["uniform"] - sum(chances) / len(chances),
    }


def _accuracy_under(change: Change, model: LanguageModel, groups: Sequence[Group]) -> float:
    """Share of right sequences, mean over tasks and lengths."""
    total = 0.0
    for group in groups:
        with change(group):
            total += accuracy(predict(model, group), group)
    return total / len(groups)


def _changes(model: LanguageModel, circuit: Circuit | None) -> Iterator[tuple[str, Change]]:
    yield "none", lambda group: nullcontext()
    if circuit is not None:
        parts: dict[str, list[tuple[Pattern, tuple[int, int]]]] = {
            "eoi head": [("eoi", circuit.eoi)],
            "iteration head": [("iteration", circuit.iteration)],
            "both heads": [("eoi", circuit.eoi), ("iteration", circuit.iteration)],
        }
        for name, heads in parts.items():
            yield f"ideal maps: {name}", _with_ideal_maps(model, heads)
        for name, heads in parts.items():
            yield f"uniform maps: {name}", _with_uniform_maps(model, [head for _, head in heads])
    everything = attention_heads(model)
    if everything:
        yield "uniform maps: every head", _with_uniform_maps(model, everything)
    for how in ("zero", "mean"):
        for layer, head in everything:
            yield (
                f"{how} ablation: layer {layer} head {head}",
                _always(partial(ablated_heads, model, [(layer, head)], how)),
            )
        for layer in mlp_layers(model):
            yield f"{how} ablation: layer {layer} MLP", _always(partial(ablated_mlps, model, [layer], how))


def _always(make: Callable[[], AbstractContextManager[None]]) -> Change:
    """A change that is the same whatever is read."""
    return lambda group: make()


def _with_ideal_maps(model: LanguageModel, heads: Sequence[tuple[Pattern, tuple[int, int]]]) -> Change:
    @contextmanager
    def change(group: Group) -> Iterator[None]:
        with ExitStack() as stack:
            for pattern, (layer, head) in heads:
                edit = _in_head(head, partial(ideal_maps, pattern=pattern, length=group.length))
                stack.enter_context(edited_maps(model, {layer: edit}))
            yield

    return change


def _with_uniform_maps(model: LanguageModel, heads: Sequence[tuple[int, int]]) -> Change:
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    edits = {layer: _in_head(indices, uniform_maps) for layer, indices in by_layer.items()}
    return lambda group: edited_maps(model, edits)


def _in_head(head: int | list[int], edit: EditMaps) -> EditMaps:
    """The edit, in some heads of the layer alone."""
    indices = [head] if isinstance(head, int) else head

    def edited(maps: Tensor) -> Tensor:
        result = maps.clone()
        result[:, indices] = edit(maps[:, indices])
        return result

    return edited
