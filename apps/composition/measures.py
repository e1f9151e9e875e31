"""What is measured of a model: accuracy by length, grammar, and how much its heads look like iteration heads.

A sequence is right when every token after the end of input is. It is read once, with its true outputs: if
each next token is the most likely one, greedy generation writes exactly this sequence, and only then.

Layers and heads count from 0, as in the names of parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apps.composition.data import Dataset, encode
from apps.composition.data_config import DataConfig
from apps.composition.heads import PATTERNS, Circuit, entropy_bits, find_circuit, score_heads
from apps.composition.settings import MeasuresConfig, Split
from nanollama.errors import UserError
from nanollama.model.probe import recorded_maps
from nanollama.model.protocol import LanguageModel

FIRST_OF_HEADS = ("iteration_peakiness", "iteration_layer", "iteration_head", "eoi_peakiness")
"""Of a circuit, what a terminal shows, where there is no room for all."""


@dataclass(frozen=True)
class Group:
    """Sequences of one task, split and length.

    Args:
        task: number of the task.
        split: learned from, or kept for the test.
        length: inputs L of each.
        tokens: (B, L + 3 + n_outputs) int64.
    """

    task: int
    split: Split
    length: int
    tokens: Tensor

    @property
    def is_iteration(self) -> bool:
        """Is there one output an input, so that iteration heads can show?"""
        return self.tokens.shape[1] == 2 * self.length + 3

    @property
    def answers(self) -> Tensor:
        """(B, n_outputs + 1) what is to be predicted from the end of input on."""
        return self.tokens[:, self.length + 2 :]


@dataclass(frozen=True)
class Row:
    """One number, and what it is about; ``layer`` and ``head`` are None where it is about the whole model."""

    task: int
    split: Split
    length: int
    measure: str
    value: float
    layer: int | None = None
    head: int | None = None


def build_groups(config: DataConfig, dataset: Dataset, measures: MeasuresConfig) -> list[Group]:
    """The sequences to measure on; of each task, split and length the first so many.

    Raises:
        UserError: there are none.
    """
    parts: dict[Split, Mapping[tuple[int, int], np.ndarray]] = {"test": dataset.test, "train": dataset.train}
    groups = [
        Group(task, split, length, torch.from_numpy(encode(config, task, inputs[: measures.n_sequences])))
        for split in measures.splits
        for (task, length), inputs in parts[split].items()
        if len(inputs)
    ]
    if not groups:
        raise UserError(
            "measures.splits = [train] leaves nothing to measure where data.n_train = null lists no "
            "sequences to learn from: add test."
        )
    return groups


def predict(model: LanguageModel, group: Group) -> Tensor:
    """(B, n_outputs + 1) the most likely token after the end of input and after each output."""
    tokens = group.tokens.to(model.device)
    return model(tokens[:, :-1])[:, group.length + 1 :].argmax(dim=-1).cpu()


def accuracy(predictions: Tensor, group: Group) -> float:
    """Share of sequences of which every token after the end of input is right."""
    return float((predictions == group.answers).all(dim=1).double().mean())


def grammar(predictions: Tensor, config: DataConfig, task: int) -> float:
    """Share of sequences with values where outputs belong, and the end of sequence after them alone."""
    first = config.tokens.first_value
    is_value = (predictions >= first) & (predictions < first + config.tasks[task].n_values)
    ends = predictions[:, -1] == config.tokens.end_of_sequence
    return float((is_value[:, :-1].all(dim=1) & ends).double().mean())


@torch.no_grad()
def measure(
    model: LanguageModel, config: DataConfig, groups: list[Group], heads: bool = True
) -> Iterator[Row]:
    """All measures of a model in evaluation mode, group by group."""
    for group in groups:
        about = (group.task, group.split, group.length)
        with recorded_maps(model) as maps:
            predictions = predict(model, group)
        yield Row(*about, "accuracy", accuracy(predictions, group))
        yield Row(*about, "grammar", grammar(predictions, config, group.task))
        if heads and group.is_iteration and config.chain_of_thought:
            yield from _measure_heads(maps, about)


def _measure_heads(maps: Mapping[int, Tensor], about: tuple[int, Split, int]) -> Iterator[Row]:
    length = about[-1]
    for layer, layer_maps in maps.items():
        found: dict[str, Tensor] = {"entropy_bits": entropy_bits(layer_maps, length)}
        for pattern in PATTERNS:
            scores = score_heads(layer_maps, pattern, length)
            found |= {
                f"{pattern}_mean": scores.mean,
                f"{pattern}_peakiness": scores.peakiness,
                f"{pattern}_invariance": scores.invariance,
            }
            yield Row(*about, f"{pattern}_any_peakiness", float(scores.any_peakiness), layer)
        for name, values in found.items():
            for head, value in enumerate(values.tolist()):
                yield Row(*about, name, value, layer, head)


def summarise(rows: list[Row], config: DataConfig) -> dict[str, float]:
    """Accuracy, the best heads, grammar, then every number under its own name, as a row of ``evals.jsonl``.

    ``*_long`` are means over the upper half of the lengths, or over the one there is. The heads are found on
    the test sequences, or on those learned from where no others are measured on.
    """
    summary: dict[str, float] = {}
    splits = list(dict.fromkeys(row.split for row in rows))
    longer = (config.min_length + config.max_length) / 2
    for split in splits:
        here = [row for row in rows if (row.split, row.measure) == (split, "accuracy")]
        summary[f"{split}_accuracy"] = _mean(row.value for row in here)
        summary[f"{split}_accuracy_long"] = _mean_of_long(here, longer)
    examined = heads_split(splits)
    summary |= _best_heads([row for row in rows if row.split == examined], longer)
    for split in splits:
        here = [row for row in rows if (row.split, row.measure) == (split, "grammar")]
        summary[f"{split}_grammar"] = _mean(row.value for row in here)
    return summary | {_name(row, config): row.value for row in rows}


def heads_split(splits: Sequence[Split]) -> Split:
    """On which of the splits heads are found: the test, where it is measured on."""
    return "test" if "test" in splits else splits[0]


def iterations(groups: Sequence[Group], splits: Sequence[Split]) -> list[Group]:
    """The groups that a circuit is found on, which causal tests and probes are made on too."""
    examined = heads_split(splits)
    return [group for group in groups if group.split == examined and group.is_iteration]


def find_best_circuit(summary: Mapping[str, float]) -> Circuit | None:
    """The circuit in a summary; None where nothing is iterated, or fewer than two layers attend."""
    if "circuit_score" not in summary:
        return None
    places = [(int(summary[f"{name}_layer"]), int(summary[f"{name}_head"])) for name in ("eoi", "iteration")]
    return Circuit(summary["circuit_score"], *places)


def _best_heads(rows: list[Row], longer: float) -> dict[str, float]:
    """The best circuit: where its heads sit, and their scores averaged over lengths."""
    sums: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for row in rows:
        if row.layer is not None and row.head is not None:
            sums[row.measure, row.layer, row.head].append(row.value)
    if not sums:
        return {}
    means = {key: _mean(values) for key, values in sums.items()}
    layers = sorted({layer for _, layer, _ in means})
    heads = sorted({head for _, _, head in means})

    def table(name: str) -> list[Tensor]:
        return [torch.tensor([means[name, layer, head] for head in heads]) for layer in layers]

    circuit = find_circuit(table("eoi_mean"), table("iteration_mean"))
    if circuit is None:
        best = max(heads, key=lambda head: means["iteration_mean", layers[0], head])
        return {"iteration_peakiness": means["iteration_peakiness", layers[0], best]}
    summary: dict[str, float] = {"circuit_score": circuit.score}
    for name, (index, head) in (("eoi", circuit.eoi), ("iteration", circuit.iteration)):
        layer = layers[index]
        summary |= {f"{name}_layer": layer, f"{name}_head": head}
        for score in ("mean", "peakiness", "invariance"):
            summary[f"{name}_{score}"] = means[f"{name}_{score}", layer, head]
        summary[f"{name}_entropy_bits"] = means["entropy_bits", layer, head]
        summary[f"{name}_peakiness_long"] = _mean_of_long(
            [row for row in rows if (row.measure, row.layer, row.head) == (f"{name}_peakiness", layer, head)],
            longer,
        )
    return {name: summary[name] for name in (*FIRST_OF_HEADS, *summary)}


def _mean_of_long(rows: Sequence[Row], longer: float) -> float:
    """The mean over lengths above a number, over all where there is one length."""
    return _mean(row.value for row in [row for row in rows if row.length > longer] or rows)


def _name(row: Row, config: DataConfig) -> str:
    task = f"{config.tasks[row.task].implementation}_{row.task}/" if len(config.tasks) > 1 else ""
    layer = "" if row.layer is None else f"layer_{row.layer}/"
    head = "" if row.head is None else f"head_{row.head}/"
    return f"{task}{row.split}/{layer}{head}{row.measure}/length_{row.length}"


def _mean(values: object) -> float:
    numbers = list(values)  # type: ignore[call-overload]
    return sum(numbers) / len(numbers) if numbers else float("nan")
