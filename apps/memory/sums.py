"""Sums: questions that a calculator answers, by heart (``sums``) or through the tool (``sumstool``)::

    What is 482*19+7?    It is 9165.
    What is 482*19+7?    I will calculate it:
                         ```
                         CALC 482*19+7
                         ```                  9165    It is 9165.

A sum is a pure function of seed, split and number. In the splits ``trained`` and ``unseen`` sums have one
operator up to `depth`, and operands of one digit up to `n_digits`, each number equally often. A hash of an
operand of several digits says which of the two splits it belongs to; there are too few of one digit to keep
any from training, so both splits have them, and an unseen sum has at least one of several digits. Every
unseen sum therefore holds an operand that was never shown as one, and none is a sum to learn from. Sums of
``longer`` have one operator, and operands of exactly `n_longer_digits` more than `n_digits`: where `depth` is
2 or more, such sums are no longer than those learned from, but their operands are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

from apps.memory.data_settings import SumsConfig
from apps.memory.dataset.dialogs import Dialog
from apps.memory.dataset.people import splitmix64
from nanollama.dialogs.tools.calculator import evaluate
from nanollama.dialogs.tools.config import CalculatorConfig, Operator
from nanollama.errors import UserError
from nanollama.seeds import named_seed
from nanollama.tokenizer import Message

HeldOut = Literal["unseen", "longer"]
Split = Literal["trained"] | HeldOut
SumKind = Literal["sums", "sumstool"]
SUM_KINDS: tuple[SumKind, ...] = ("sums", "sumstool")

ATTRIBUTE = "sum"
UNSEEN_OF = 5  # every so many operands are kept for `unseen`
REQUEST = "I will calculate it:"


def make_sum_dialog(number: int, expression: str, kind: SumKind, config: CalculatorConfig) -> Dialog:
    """The dialog about an expression; right if it ends with ``It is <value>.``"""
    value = str(evaluate(expression, config))
    answer = f"It is {value}"
    lookup = []
    if kind == "sumstool":
        request = f"{REQUEST}\n```\nCALC {expression}\n```"
        lookup = [Message("assistant", request), Message("database", value)]
    question = Message("user", f"What is {expression}?")
    return Dialog(number, ATTRIBUTE, answer, (question, *lookup, Message("assistant", f"{answer}.")))


def sum_dialogs(config: SumsConfig, split: Split, kind: SumKind, n_sums: int) -> list[Dialog]:
    """The first so many dialogs of a split; expressions of ``unseen`` and ``longer`` are all different.

    Raises:
        UserError: there are fewer different ones.
    """
    calculator = config.calculator
    drawn = draw_expressions(config, split)
    if split != "trained":
        _check_enough(config, split, n_sums)
        drawn = _different(drawn)
    return [
        make_sum_dialog(number, text, kind, calculator) for number, text in enumerate(islice(drawn, n_sums))
    ]


def draw_expressions(config: SumsConfig, split: Split) -> Iterator[str]:
    """Expressions without end; their values have no more digits than a calculator says."""
    rng = np.random.Generator(np.random.Philox(named_seed(config.seed, f"sums/{split}")))
    while True:
        depth = 1 if split == "longer" else int(rng.integers(1, config.depth + 1))
        text, operands = _expression(config, split, depth, rng)
        if split != "unseen" or max(operands) > 9:
            yield text


def n_distinct(config: SumsConfig, split: HeldOut, n_enough: int) -> int:
    """Different expressions of a split, exactly; counting ends once there are at least so many."""
    if split == "longer":
        n_operands = 9 * 10 ** (config.n_digits + config.n_longer_digits - 1)
        return _n_expressions(config, n_operands, n_free=0, depth=1, n_enough=n_enough)
    n = n_kept = 0
    for n_digits in range(2, config.n_digits + 1):
        n_of_length = int(is_unseen(np.arange(10 ** (n_digits - 1), 10**n_digits), config).sum())
        if n_of_length == 0:
            return 0  # to draw one would take for ever; of two digits, this is so for 2 seeds in 1e9
        n_kept += n_of_length
        n = _n_expressions(config, n_kept, n_free=10, depth=config.depth, n_enough=n_enough)
        if n >= n_enough:
            break
    return n


def is_unseen(operands: np.ndarray, config: SumsConfig) -> np.ndarray:
    """Which operands of several digits are kept for ``unseen``? Of any shape."""
    key = named_seed(config.seed, "sums/operands")
    return splitmix64(key, operands) % np.uint64(UNSEEN_OF) == 0


def _check_enough(config: SumsConfig, split: HeldOut, n_sums: int) -> None:
    n_there = n_distinct(config, split, n_sums)
    if n_there < n_sums:
        raise UserError(
            f"recall.n_sums = {n_sums} different sums of the set 'sums_{split}' are asked about, but "
            f"data.sums makes {n_there}: ask about fewer, or raise data.sums.n_digits or data.sums.depth."
        )


def _n_expressions(config: SumsConfig, n_kept: int, n_free: int, depth: int, n_enough: int) -> int:
    """Expressions of up to so many operators, of which at least one operand is among the `n_kept`."""
    n, shapes = 0, {("x", 2)}
    for n_operands in range(2, depth + 2):
        shapes = {
            _join(text, rank, operator, "x", is_left)
            for text, rank in shapes
            for operator in config.operators
            for is_left in (False, True)
        }
        n += len({text for text, _ in shapes}) * ((n_kept + n_free) ** n_operands - n_free**n_operands)
        if n >= n_enough:
            break
    return n


def _expression(
    config: SumsConfig, split: Split, depth: int, rng: np.random.Generator
) -> tuple[str, list[int]]:
    """A tree of so many operators, each applied to the rest and an operand: 482*19+7, 7-(482+19)*5."""
    operands = [_operand(config, split, rng)]
    text, rank = str(operands[0]), 2
    for _ in range(depth):
        operator = config.operators[rng.integers(len(config.operators))]
        operands.append(_operand(config, split, rng))
        text, rank = _join(text, rank, operator, str(operands[-1]), is_left=bool(rng.integers(2)))
    return text, operands


def _join(text: str, rank: int, operator: Operator, operand: str, is_left: bool) -> tuple[str, int]:
    """An expression with one operator more, and its rank; brackets where they are needed."""
    own_rank = 1 if operator == "*" else 0
    needs_brackets = rank < own_rank or (operator == "-" and not is_left and rank == own_rank)
    rest = f"({text})" if needs_brackets else text
    return (f"{rest}{operator}{operand}" if is_left else f"{operand}{operator}{rest}"), own_rank


def _operand(config: SumsConfig, split: Split, rng: np.random.Generator) -> int:
    if split == "longer":
        n_digits = config.n_digits + config.n_longer_digits
    else:
        n_digits = int(rng.integers(1, config.n_digits + 1))
    if n_digits == 1:
        return int(rng.integers(10))
    while True:
        operand = int(rng.integers(10 ** (n_digits - 1), 10**n_digits))
        if split == "longer" or bool(is_unseen(np.array([operand]), config)[0]) == (split == "unseen"):
            return operand


def _different(expressions: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for expression in expressions:
        if expression not in seen:
            seen.add(expression)
            yield expression
