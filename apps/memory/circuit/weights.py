"""A transformer that asks the database, built by hand: no training, whatever the names and values are.

Claim T2 of arXiv 2508.20755 says that a number of parameters that does not depend on the people is
enough. Here are such weights, in the library's own transformer of three layers. Names and values are
copied by counting, not by their content, so repeated letters and names that begin alike do no harm.

A number n, such as a position, is written as a *code*: the points at angle 2 pi n / period on three
circles (`PERIODS`). The dot product of two codes is largest, 3, where they are equal, and at most 3 -
`GAP` elsewhere, so heads find places and units recognise numbers by their codes. As complex numbers,
codes add when multiplied, and a SwiGLU multiplies exactly: silu(x) y + silu(-x) (-y) = x y.

- Layer 0 looks for landmarks: the letter of the question that tells the attribute, the first and the last
  ``<assistant>``, and ``<database>``. Its MLP subtracts: tokens written in this turn, length of the name,
  tokens since ``<database>``.
- Layer 1 collects nothing; its MLP subtracts once more: tokens written behind the name, where in the
  question the next letter of the name stands, where in the reply the next letter of the value.
- Layer 2 copies: a head the letter of the name, a head the letter of the value (stronger), a head sees
  that the value has ended. Its MLP knows the fixed words and when each of their letters is due
  (strongest).

One coordinate of the stream is so large that it alone decides what RMSNorm divides by, and so undoes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from apps.memory.circuit.words import Words
from apps.memory.settings import MemoryModelConfig
from nanollama.model import model_class
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import ByteTokenizer

PERIODS = (1024, 128, 16)
GAP = len(PERIODS) - sum(math.cos(2 * math.pi / period) for period in PERIODS)
MAX_SEQ_LEN = PERIODS[0] // 2  # differences of positions, of either sign, have codes of their own
N_LAYERS, N_HEADS, HEAD_DIM = 3, 4, 9
N_BITS = 8  # of a byte, as coordinates of -1 and 1

LARGE = 1e4  # the coordinate that RMSNorm is ruled by
SHARP = 60 / GAP  # of heads that find a code: attention to any other key is below e^-60
ACTIVE = 20.0  # input of a unit that fires; at -ACTIVE, silu is -4e-8
NAME, VALUE, FIXED = 1.0, 3.0, 9.0  # how strongly letters are put out: the stronger overrules
SPECIAL = 64.0  # how strongly special tokens are: more than all bits of NAME and VALUE together
LOGIT = 20.0

CODE = 2 * len(PERIODS)


class Layout:
    """Which coordinates of the stream mean what, by name; a vector is a linear function of the stream."""

    def __init__(self, attributes: Sequence[str]) -> None:
        sizes = {
            "position": CODE,  # first, for learned positions write to the first coordinates
            "one": 1,
            "bits": N_BITS,  # of the token here, 0 for a special one
            "user": 1,
            "assistant": 1,
            "database": 1,
            "letter": len(attributes),  # is the token here the letter that tells this attribute?
            "attribute": len(attributes),
            "first_assistant": CODE,
            "last_assistant": CODE,
            "reply": CODE,  # position of <database>; 0 before it
            "replied": 1,
            "attribute_replied": len(attributes),
            "written": CODE,  # tokens of this turn
            "name_length": CODE,
            "before_value": CODE,  # tokens of the answer in front of the value, less 1
            "since_reply": CODE,
            "behind_name": CODE,
            "name_pointer": CODE,  # a position
            "value_pointer": CODE,  # a number of tokens since <database>
            "out_bits": N_BITS,
            "out_database": 1,
            "out_end": 1,
        }
        ends = list(accumulate(sizes.values()))
        self.width = ends[-1]
        self._spans = {
            name: range(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)
        }

    def __getitem__(self, name: str) -> Tensor:
        """Unit vectors of a block, (size, width)."""
        return torch.eye(self.width)[list(self._spans[name])]


def code(number: int) -> Tensor:
    """(CODE,) cosines and sines in turn."""
    angles = [2 * math.pi * number / period for period in PERIODS]
    return torch.tensor([part for angle in angles for part in (math.cos(angle), math.sin(angle))])


class LayerWriter:
    """Writes heads and units into one layer."""

    def __init__(self, model: LanguageModel, layer: int, one: Tensor) -> None:
        self._one = one
        parts = model.get_parameter(f"blocks.{layer}.attention.qkv.weight").chunk(3)
        self._query, self._key, self._value = (part.unflatten(0, (N_HEADS, HEAD_DIM)) for part in parts)
        self._output = model.get_parameter(f"blocks.{layer}.attention.output.weight")
        self._gate, self._up = model.get_parameter(f"blocks.{layer}.mlp.gate_up.weight").chunk(2)
        self._down = model.get_parameter(f"blocks.{layer}.mlp.down.weight")
        self._n_units = 0

    def head(self, head: int, query: Tensor, key: Tensor, copies: Sequence[tuple[Tensor, Tensor]]) -> None:
        """A head: its score is the dot product of queries and keys (n, width).

        Args:
            head: which one.
            query: functions of the stream here.
            key: as many functions of the stream there.
            copies: (function of the stream there, what to add to the stream here for it), both (n, width).
        """
        self._query[head, : len(query)] = query * math.sqrt(HEAD_DIM)
        self._key[head, : len(key)] = key
        value, written = (torch.cat(parts) for parts in zip(*copies, strict=True))
        self._value[head, : len(value)] = value
        self._output[:, head * HEAD_DIM : head * HEAD_DIM + len(written)] = written.T

    def multiply(self, first: Tensor, second: Tensor, written: Tensor) -> None:
        """Add ``first * second * written`` to the stream, exactly; all are (width,)."""
        for sign in (1.0, -1.0):
            self._unit(sign * first, sign * second, written)

    def difference(self, first: Tensor, second: Tensor, written: Tensor) -> None:
        """Write the code of first - second: the product of a code with the conjugate of another."""
        for start in range(0, CODE, 2):
            (x, y), (u, v) = first[start : start + 2], second[start : start + 2]
            real, imaginary = written[start : start + 2]
            self.multiply(x, u, real)
            self.multiply(y, v, real)
            self.multiply(y, u, imaginary)
            self.multiply(x, v, -imaginary)

    def when(self, counter: Tensor, number: int, conditions: Iterable[Tensor], written: Tensor) -> None:
        """Write a vector when a code is that of a number and all conditions, 1 or 0, are 1."""
        gate = 2 * ACTIVE / GAP * (code(number) @ counter - len(PERIODS) * self._one) + ACTIVE * self._one
        for condition in conditions:
            gate = gate + 2 * ACTIVE * (condition - self._one)
        self._unit(gate, self._one, written / ACTIVE)

    def _unit(self, gate: Tensor, up: Tensor, written: Tensor) -> None:
        self._gate[self._n_units], self._up[self._n_units] = gate, up
        self._down[:, self._n_units] = written
        self._n_units += 1


def circuit_shape(tokenizer: ByteTokenizer, words: Words) -> MemoryModelConfig:
    """The shape of the model, for dialogs of these words; it reads `MAX_SEQ_LEN` tokens."""
    n_products = 4 * 2 * CODE * 2 + 2 * len(words.attributes)
    return MemoryModelConfig(
        implementation="transformer",
        vocab_size=tokenizer.vocab_size,
        d_model=Layout(words.attributes).width,
        n_layers=N_LAYERS,
        n_heads=N_HEADS,
        head_dim=HEAD_DIM,
        d_ff=max(n_products, sum(1 for _ in words.letters())),
        positions="learned",
        position_dim=CODE,
        max_seq_len=MAX_SEQ_LEN,
    )


def build_circuit(tokenizer: ByteTokenizer, words: Words) -> LanguageModel:
    """The model, for dialogs of these words."""
    layout, config = Layout(words.attributes), circuit_shape(tokenizer, words)
    model = model_class(config)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        _write_embeddings(model, layout, tokenizer, words)
        layers = [LayerWriter(model, layer, layout["one"][0]) for layer in range(N_LAYERS)]
        _find_landmarks(layers[0], layout, words)
        _count(layers[0], layout, words)
        _point(layers[1], layout, words)
        _copy(layers[2], layout)
        _say_fixed_words(layers[2], layout, words)
        _undo_norms(model, layout)
    return model.eval()


def _write_embeddings(model: LanguageModel, layout: Layout, tokenizer: ByteTokenizer, words: Words) -> None:
    tokens, head = model.get_parameter("embedding.weight"), model.get_parameter("head.weight")
    tokens.add_(LARGE * layout["one"][0])
    tokens[:256] += _bits(range(256)) @ layout["bits"]
    for role in tokenizer.roles:
        tokens[tokenizer.special_ids[role]] += layout[role][0]
    for letter, vector in zip(words.telling_letters, layout["letter"], strict=True):
        tokens[letter] += vector
    positions = torch.stack([code(position) for position in range(MAX_SEQ_LEN)])
    model.get_parameter("position_embedding.weight").copy_(positions)
    head[:256] = LOGIT * _bits(range(256)) @ layout["out_bits"]
    head[tokenizer.special_ids["database"]] = LOGIT * layout["out_database"][0]
    head[tokenizer.end_id] = LOGIT * layout["out_end"][0]


def _find_landmarks(layer: LayerWriter, layout: Layout, words: Words) -> None:
    one, position = layout["one"], layout["position"]
    found = code(words.telling_position)[:, None] * one
    layer.head(0, SHARP * found, position, [(layout["letter"], layout["attribute"])])
    early = 400 * position[:1]  # falls from 400 at position 0 to -400 at MAX_SEQ_LEN
    for head, side, name in ((1, early, "first_assistant"), (2, -early, "last_assistant")):
        layer.head(head, one, 2000 * layout["assistant"] + side, [(position, layout[name])])
    # Before a reply the head rests on <user>, at position 0, whose code is taken off to leave nothing.
    rest = position - code(0)[:, None] * layout["user"]
    copies = [(rest, layout["reply"]), (layout["database"], layout["replied"])]
    layer.head(3, one, 2000 * layout["database"] + 1000 * layout["user"], copies)


def _count(layer: LayerWriter, layout: Layout, words: Words) -> None:
    first = layout["first_assistant"]
    layer.difference(layout["position"], layout["last_assistant"], layout["written"])
    layer.difference(layout["position"], layout["reply"], layout["since_reply"])
    beside = [words.name_start(attribute) + words.n_behind_name(attribute) for attribute in words.attributes]
    layer.difference(first, _constants(layout["attribute"], beside), layout["name_length"])
    shifts = [
        n_beside - words.n_answer_words(attribute) + 1
        for attribute, n_beside in zip(words.attributes, beside, strict=True)
    ]
    layer.difference(first, _constants(layout["attribute"], shifts), layout["before_value"])
    for attribute, both in zip(layout["attribute"], layout["attribute_replied"], strict=True):
        layer.multiply(attribute, layout["replied"][0], both)


def _point(layer: LayerWriter, layout: Layout, words: Words) -> None:
    layer.difference(layout["written"], layout["name_length"], layout["behind_name"])
    layer.difference(layout["written"], layout["before_value"], layout["value_pointer"])
    asking = [len(words.request(attribute)) - words.name_start(attribute) for attribute in words.attributes]
    answering = [
        len(words.answer(attribute)[0]) - words.name_start(attribute) for attribute in words.attributes
    ]
    shift = _constants(layout["attribute"] - layout["attribute_replied"], asking)
    shift = shift + _constants(layout["attribute_replied"], answering)
    layer.difference(layout["written"], shift, layout["name_pointer"])


def _copy(layer: LayerWriter, layout: Layout) -> None:
    out, one = layout["out_bits"], layout["one"]
    layer.head(0, SHARP * layout["name_pointer"], layout["position"], [(layout["bits"], NAME * out)])
    # Where no key has the number of the pointer, the heads of the value rest on <user>, which has no bits.
    resting = (len(PERIODS) - GAP / 2) * layout["user"]
    key = torch.cat([layout["since_reply"], resting])
    # The value ends with <assistant>: there it is a full stop that is due, and one step later the end.
    full_stop = _bits([ord(".")])[0] @ out
    copies = [(layout["bits"], VALUE * out), (layout["assistant"], VALUE * full_stop[None])]
    layer.head(1, 2 * SHARP * torch.cat([layout["value_pointer"], one]), key, copies)
    one_behind = torch.cat([_rotated(layout["value_pointer"], -1), one])
    ending = [(layout["assistant"], SPECIAL * layout["out_end"])]
    layer.head(2, 2 * SHARP * one_behind, key, ending)


def _say_fixed_words(layer: LayerWriter, layout: Layout, words: Words) -> None:
    asking = layout["one"][0] - layout["replied"][0]
    for letter in words.letters():
        counter = layout["behind_name" if letter.behind_name else "written"]
        conditions = [layout["replied"][0] if letter.answering else asking]
        if len(letter.attributes) < len(words.attributes):
            indices = [words.attributes.index(attribute) for attribute in letter.attributes]
            conditions.append(layout["attribute"][indices].sum(0))
        if letter.byte is None:
            written = SPECIAL * layout["out_database"][0]
        else:
            written = FIXED * _bits([letter.byte])[0] @ layout["out_bits"]
        layer.when(counter, letter.number, conditions, written)


def _undo_norms(model: LanguageModel, layout: Layout) -> None:
    """RMSNorm divides by LARGE / sqrt(width), up to a share of 1e-7."""
    scale = torch.full((layout.width,), LARGE / math.sqrt(layout.width))
    scale[layout["one"][0].bool()] = 1 / math.sqrt(layout.width)
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0].endswith("norm"):
            parameter.copy_(scale)


def _bits(values: Iterable[int]) -> Tensor:
    """(n, N_BITS) the bits of bytes as -1 and 1."""
    rows = [[1.0 if value >> bit & 1 else -1.0 for bit in range(N_BITS)] for value in values]
    return torch.tensor(rows)


def _constants(selectors: Tensor, numbers: Sequence[int]) -> Tensor:
    """(CODE, width) the code of the number whose selector is 1."""
    codes = torch.stack([code(number) for number in numbers])
    return codes.T @ selectors


def _rotated(vectors: Tensor, number: int) -> Tensor:
    """The code of a number more, as a function of the stream."""
    real, imaginary = vectors[0::2], vectors[1::2]
    cos, sin = code(number)[0::2, None], code(number)[1::2, None]
    return torch.stack([cos * real - sin * imaginary, sin * real + cos * imaginary], dim=1).flatten(0, 1)
