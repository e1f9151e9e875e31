"""An iteration head built by hand: weights written by a function into the library's transformer.

Every coordinate of the stream means one thing, and is 1 or 0. The query at position L + 1 + k

- layer 0 attends to the end of input, and copies its position L + 1;
- its MLP subtracts: own position and that of the end of input make the pointer k + 1;
- layer 1 attends to the position that the pointer names, and copies the token there, x_{k+1};
- its MLP applies F to the query's own token, s_k, and this one; past the last input it finds the end of input
  and ends the sequence.

Only the last MLP knows the task. Tokens before the end of input attend to the problem token instead, so that
every token has the same number of ones when it is normed, and each LayerNorm can undo itself exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apps.composition.data_config import TokensConfig
from apps.composition.tasks import Iteration
from nanollama.model import ModelConfig, model_class
from nanollama.model.protocol import LanguageModel

GAP = 60.0  # by which the chosen key's score exceeds the next: attention elsewhere is below e^-60 a key
SHARPNESS = 40.0  # slope of the units of an MLP: gelu(-SHARPNESS / 2) is 0 in float32
LOGIT = 20.0


@dataclass(frozen=True)
class Layout:
    """Which coordinates of the stream mean what; each attribute is the first of a block.

    Args:
        token: the token here, one coordinate an id.
        position: the position here.
        eoi: the position of the end of input; 0 before it.
        pointer: the position of the input to fetch; 0 before the end of input.
        fetched: the token that was fetched.
        out: the token to put out.
        width: of the stream.
    """

    token: int
    position: int
    eoi: int
    pointer: int
    fetched: int
    out: int
    width: int


def layout(vocab_size: int, max_length: int) -> Layout:
    """Blocks side by side."""
    n_positions = 2 * max_length + 2
    sizes = [vocab_size, n_positions, n_positions, max_length + 2, vocab_size, vocab_size]
    starts = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    return Layout(*starts)


def build_handmade(
    task: Iteration, tokens: TokensConfig, max_length: int, vocab_size: int = 64
) -> LanguageModel:
    """A transformer of two layers and one head that iterates the task's F on up to ``max_length`` inputs."""
    blocks = layout(vocab_size, max_length)
    pairs = [(b, a) for b in range(2, max_length + 2) for a in range(b, 2 * b)]
    rules = iteration_rules(task, tokens)
    config = ModelConfig(
        implementation="transformer",
        vocab_size=vocab_size,
        d_model=blocks.width,
        n_layers=2,
        n_heads=1,
        d_ff=max(len(pairs) + 1, len(rules)),
        norm="layer",
        mlp="gelu",
        positions="learned",
        max_seq_len=2 * max_length + 2,
        bias=True,
    )
    model = model_class(config)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        one_hot(model.get_parameter("embedding.weight"), blocks.token)
        one_hot(model.get_parameter("position_embedding.weight"), blocks.position)
        write_attention_to_eoi(model, blocks, task, tokens)
        subtraction: list[tuple[tuple[int, ...], int]] = [((blocks.eoi,), blocks.pointer)]
        subtraction += [((blocks.eoi + b, blocks.position + a), blocks.pointer + a - b + 1) for b, a in pairs]
        write_rules(model, 0, subtraction)
        write_attention_by_pointer(model, blocks, max_length)
        write_rules(model, 1, place_rules(rules, blocks))
        norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
        for n_ones, norm in enumerate(
            norms, start=2
        ):  # token and position at first, then a block a half layer
            write_identity(norm, n_ones)
        one_hot(model.get_parameter("head.weight"), blocks.out, LOGIT)
    return model.eval()


def iteration_rules(task: Iteration, tokens: TokensConfig) -> list[tuple[int | None, int, int]]:
    """(own token or any, fetched token, token to put out): all that the last MLP has to know."""
    first = tokens.first_value
    table = task.transitions()
    rules: list[tuple[int | None, int, int]] = [(None, tokens.end_of_input, tokens.end_of_sequence)]
    for value in task.inputs:
        rules.append((tokens.end_of_input, first + value, first + value))
        rules += [
            (first + state, first + value, first + int(table[state, value])) for state in range(task.n_values)
        ]
    return rules


def place_rules(
    rules: Sequence[tuple[int | None, int, int]], blocks: Layout
) -> list[tuple[tuple[int, ...], int]]:
    """The same rules in coordinates."""
    return [
        ((blocks.fetched + fetched, *(() if own is None else (blocks.token + own,))), blocks.out + out)
        for own, fetched, out in rules
    ]


def one_hot(weight: Tensor, start: int, height: float = 1.0) -> None:
    """Row i of an embedding gets its mark in coordinate ``start + i``."""
    rows = torch.arange(len(weight))
    weight[rows, start + rows] = height


def write_attention_to_eoi(
    model: LanguageModel, blocks: Layout, task: Iteration, tokens: TokensConfig
) -> None:
    """Layer 0: every query attends to the end of input, or to the problem token where it sees none."""
    _, key, value, output = attention_parts(model, 0)
    scale = GAP * math.sqrt(blocks.width)
    model.get_parameter("blocks.0.attention.qkv.bias")[0] = 1.0  # the query is the same everywhere
    key[0, blocks.token + tokens.end_of_input] = 2 * scale
    key[0, blocks.token + task.problem_token] = scale
    for index in range(blocks.pointer - blocks.eoi):
        value[index, blocks.position + index] = 1.0
        output[blocks.eoi + index, index] = 1.0


def write_attention_by_pointer(model: LanguageModel, blocks: Layout, max_length: int) -> None:
    """Layer 1: every query attends to the position that its pointer names, and copies the token there."""
    query, key, value, output = attention_parts(model, 1)
    scale = GAP * math.sqrt(blocks.width)
    for index in range(max_length + 2):
        query[index, blocks.pointer + index] = scale
        key[index, blocks.position + index] = 1.0
    for index in range(blocks.out - blocks.fetched):
        value[index, blocks.token + index] = 1.0
        output[blocks.fetched + index, index] = 1.0


def attention_parts(model: LanguageModel, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of the matrices of queries, keys, values and output of a layer."""
    query, key, value = model.get_parameter(f"blocks.{layer}.attention.qkv.weight").chunk(3)
    return query, key, value, model.get_parameter(f"blocks.{layer}.attention.output.weight")


def write_rules(model: LanguageModel, layer: int, rules: Sequence[tuple[tuple[int, ...], int]]) -> None:
    """An MLP with a unit a rule: when all coordinates of the first part are 1, it sets that of the second."""
    up, bias = (model.get_parameter(f"blocks.{layer}.mlp.up.{name}") for name in ("weight", "bias"))
    down = model.get_parameter(f"blocks.{layer}.mlp.down.weight")
    active = SHARPNESS / 2
    for unit, (conditions, result) in enumerate(rules):
        up[unit, list(conditions)] = SHARPNESS
        bias[unit] = SHARPNESS * (0.5 - len(conditions))
        down[result, unit] = 1.0 / active


def write_identity(norm: nn.LayerNorm, n_ones: int) -> None:
    """Let a LayerNorm give back any vector of so many ones, and zeros, as it is."""
    mean = n_ones / norm.normalized_shape[0]
    norm.weight.fill_(math.sqrt(mean - mean**2 + norm.eps))
    norm.bias.fill_(mean)
