"""Sums: questions that a calculator answers, by heart (``sums``) or through the tool (``sumstool``)::

    What is 482*19+7?    It is 9165.
    What is 482*19+7?    I will calculate it:
                         ```
                         CALC 482*19+7
                         ```                  9165    It is 9165.

A sum is a pure function of seed, split and number. In the splits ``trained`` and ``unseen`` sums have one
operator up to `depth`, and operands one digit up to `n_digits`, each number equally often; a hash of the
operand says which of the two it belongs to, so that no operand of an unseen sum was ever shown (but for
those of one digit, which belong to both). Sums of ``longer`` have one operator, and operands of exactly
`n_longer_digits` more than `n_digits`: where `depth` is 2 or more, such sums are no longer than those
learned from, but their operands are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

from apps.memory.dataset.dialogs import Dialog
from apps.memory.dataset.people import splitmix64
from apps.memory.settings import SumsConfig
from nanollama.dialogs.tools.calculator import evaluate
from nanollama.dialogs.tools.config import CalculatorConfig
from nanollama.seeds import named_seed
from nanollama.tokenizer import Message

Split = Literal["trained", "unseen", "longer"]
SumKind = Literal["sums", "sumstool"]

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
    """The first so many dialogs of a split; expressions of ``unseen`` and ``longer`` are all different."""
    calculator = config.calculator
    drawn = draw_expressions(config, split)
    if split != "trained":
        drawn = _different(drawn)
    return [
        make_sum_dialog(number, text, kind, calculator) for number, text in enumerate(islice(drawn, n_sums))
    ]


def draw_expressions(config: SumsConfig, split: Split) -> Iterator[str]:
    """Expressions without end; their values have no more digits than a calculator says."""
    rng = np.random.Generator(np.random.Philox(named_seed(config.seed, f"sums/{split}")))
    while True:
        depth = 1 if split == "longer" else int(rng.integers(1, config.depth + 1))
        yield _expression(config, split, depth, rng)


def is_unseen(operand: int, config: SumsConfig) -> bool:
    """Is an operand of several digits kept for ``unseen``?"""
    key = named_seed(config.seed, "sums/operands")
    return int(splitmix64(key, np.array([operand], dtype=np.uint64))[0] % np.uint64(UNSEEN_OF)) == 0


def _expression(config: SumsConfig, split: Split, depth: int, rng: np.random.Generator) -> str:
    """A tree of so many operators, each applied to the rest and an operand: 482*19+7, 7-(482+19)*5."""
    text, rank = str(_operand(config, split, rng)), 2
    for _ in range(depth):
        operator = config.operators[rng.integers(len(config.operators))]
        operand, is_left = str(_operand(config, split, rng)), bool(rng.integers(2))
        own_rank = 1 if operator == "*" else 0
        needs_brackets = rank < own_rank or (operator == "-" and not is_left and rank == own_rank)
        rest = f"({text})" if needs_brackets else text
        text = f"{rest}{operator}{operand}" if is_left else f"{operand}{operator}{rest}"
        rank = own_rank
    return text


def _operand(config: SumsConfig, split: Split, rng: np.random.Generator) -> int:
    if split == "longer":
        n_digits = config.n_digits + config.n_longer_digits
    else:
        n_digits = int(rng.integers(1, config.n_digits + 1))
    if n_digits == 1:
        return int(rng.integers(10))
    while True:
        operand = int(rng.integers(10 ** (n_digits - 1), 10**n_digits))
        if split == "longer" or is_unseen(operand, config) == (split == "unseen"):
            return operand


def _different(expressions: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for expression in expressions:
        if expression not in seen:
            seen.add(expression)
            yield expression
