"""A calculator that a model may ask: ``CALC 482*19+7``, whole numbers only, exact.

The grammar, with the operators of the config::

    request    = "CALC " expression
    expression = term {("+" | "-") term}
    term       = factor {"*" factor}
    factor     = ["-"] (digits | "(" expression ")")

Blanks may stand between symbols. Nothing is handed to Python's own evaluation: the request is cut into
symbols and read by the functions below, which count digits, depth and bits before they compute.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from nanollama.dialogs.tools.config import CalculatorConfig
from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.dialogs.tools.replies import RequestError, error_reply, read_request, value_reply

COMMAND = "CALC "

_SYMBOL = re.compile(r" *([0-9]+|[-+*()])")
_BITS_PER_DIGIT = math.log2(10)
_MAX_DIGITS_PRINTED = 4300  # of a number that Python turns into text, unless it is set to other limits
_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}


class CalculatorTool(Tool):
    """Answers with the number, or with ``error: ...`` and a short sentence a model can learn from.

    Time and memory are bounded by the limits: no number, also on the way, has more digits than a reply may
    have bytes. Any number of threads may use it.

    Args:
        config: which operators, how long and how deep.
        role: the special token that opens its turns.
    """

    def __init__(self, config: CalculatorConfig, role: str = "calculator") -> None:
        self.role = role
        self._config = config

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """One reply a request. No request makes it raise."""
        return [self._reply(request) for request in requests]

    def who(self, request: str) -> str:
        """A calculator, whatever its role."""
        return "calculator"

    def close(self) -> None:
        """There is nothing to give back."""

    def _reply(self, message: str) -> Reply:
        limits = self._config.limits
        try:
            request = read_request(message, limits)
            if not request.startswith(COMMAND):
                raise RequestError("write CALC and an expression, such as CALC 12*3+4")
            return value_reply([[evaluate(request.removeprefix(COMMAND), self._config)]], limits)
        except RequestError as error:
            return error_reply(error, limits)


def evaluate(expression: str, config: CalculatorConfig) -> int:
    """The value of an expression.

    Raises:
        RequestError: it is not an expression, or goes beyond the limits of the config.
    """
    return _Reader(_symbols(expression), config).read()


def _symbols(expression: str) -> list[str]:
    symbols, position = [], 0
    text = expression.rstrip(" ")
    while position < len(text):
        match = _SYMBOL.match(text, position)
        if match is None:
            raise RequestError("use whole numbers, operators and brackets only")
        symbols.append(match[1])
        position = match.end()
    return symbols


class _Reader:
    """Reads and computes an expression from left to right."""

    def __init__(self, symbols: Sequence[str], config: CalculatorConfig) -> None:
        self._symbols = symbols
        self._config = config
        self._position = 0
        n_digits = min(config.limits.max_reply_bytes, _MAX_DIGITS_PRINTED)
        self._max_bits = int(n_digits * _BITS_PER_DIGIT) - 1  # room for a sign, too

    def read(self) -> int:
        """All of it."""
        value = self._expression(0)
        if self._next() is not None:
            self._fail(self._position)
        return value

    def _expression(self, depth: int) -> int:
        return self._chain(("+", "-"), self._term, depth)

    def _term(self, depth: int) -> int:
        return self._chain(("*",), self._factor, depth)

    def _chain(self, operators: Sequence[str], read_part: Callable[[int], int], depth: int) -> int:
        """Parts joined by operators of one rank, from the left."""
        value = read_part(depth)
        while (operator := self._next()) in operators:
            if operator not in self._config.operators:
                raise RequestError(f"unknown operator, use {' '.join(self._config.operators)}")
            self._position += 1
            right = read_part(depth)
            if operator == "*" and value.bit_length() + right.bit_length() > self._max_bits:
                raise RequestError("the numbers become too long")
            value = _OPERATIONS[operator](value, right)
            if value.bit_length() > self._max_bits:
                raise RequestError("the numbers become too long")
        return value

    def _factor(self, depth: int) -> int:
        symbol = self._take()
        if symbol == "-":
            return -self._unsigned(self._take(), depth)
        return self._unsigned(symbol, depth)

    def _unsigned(self, symbol: str, depth: int) -> int:
        if symbol == "(":
            if depth == self._config.max_depth:
                raise RequestError(f"brackets deeper than {self._config.max_depth}")
            value = self._expression(depth + 1)
            if self._take() != ")":
                self._fail(self._position - 1)
            return value
        if not symbol.isdigit():
            self._fail(self._position - 1)
        if len(symbol) > self._config.max_digits:
            raise RequestError(f"number longer than {self._config.max_digits} digits")
        return int(symbol)

    def _next(self) -> str | None:
        return self._symbols[self._position] if self._position < len(self._symbols) else None

    def _take(self) -> str:
        symbol = self._next()
        if symbol is None:
            self._fail(self._position)
        self._position += 1
        return symbol

    def _fail(self, index: int) -> NoReturn:
        raise RequestError(f"no expression at symbol {index + 1}, write such as 12*(3+4)")
