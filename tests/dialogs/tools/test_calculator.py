"""The calculator: right values, short errors, and no request that hurts."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanollama.dialogs.tools import CalculatorConfig, CalculatorTool, Limits, Reply, Toolbox
from nanollama.dialogs.tools.calculator import evaluate
from nanollama.dialogs.tools.replies import RequestError

CONFIG = CalculatorConfig()
TOOL = CalculatorTool(CONFIG)
N_HOSTILE = 20_000


def fenced(request: str) -> str:
    return f"Let me see.\n```\n{request}\n```"


def trees(depth: int = 3) -> st.SearchStrategy[tuple[str, int]]:
    """Expressions with all their brackets, and their values, reckoned apart."""
    leaf = st.integers(0, 999).map(lambda number: (str(number), number))

    def join(parts: tuple[tuple[str, int], str, tuple[str, int]]) -> tuple[str, int]:
        (left, x), operator, (right, y) = parts
        return f"({left}{operator}{right})", {"+": x + y, "-": x - y, "*": x * y}[operator]

    tree = leaf
    for _ in range(depth):
        tree = st.one_of(leaf, st.tuples(tree, st.sampled_from("+-*"), tree).map(join))
    return tree


@given(trees())
def test_bracketed_expressions_have_their_values(tree: tuple[str, int]) -> None:
    text, value = tree
    assert evaluate(text, CONFIG) == value


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), max_size=8), st.integers(0, 99))
def test_products_bind_first_and_sums_go_from_the_left(rest: list[tuple[str, int]], first: int) -> None:
    products, signs = [first], [1]
    for operator, number in rest:
        if operator == "*":
            products[-1] *= number
        else:
            products.append(number)
            signs.append(1 if operator == "+" else -1)
    text = f"{first}" + "".join(f"{operator}{number}" for operator, number in rest)
    assert evaluate(text, CONFIG) == sum(a * b for a, b in zip(products, signs, strict=True))


@pytest.mark.parametrize(
    ("text", "value"),
    [("482*19+7", 9165), ("-3*-4", 12), (" 2 * ( 3 + 4 ) ", 14), ("2--3", 5), ("007", 7), ("-(2-5)", 3)],
)
def test_examples(text: str, value: int) -> None:
    assert evaluate(text, CONFIG) == value


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("CALC 2**3", "no expression at symbol 3, write such as 12*(3+4)"),
        ("CALC 1 2", "no expression at symbol 2"),
        ("CALC (1", "no expression at symbol 3"),
        ("CALC", "write CALC and an expression"),
        ("CALC 4/2", "use whole numbers, operators and brackets only"),
        ("CALC __import__('os')", "use whole numbers, operators and brackets only"),
        ("CALC ٣+٤", "use whole numbers, operators and brackets only"),
        ("CALC 1\n+1", "use whole numbers, operators and brackets only"),
        ("FIND x FOR y", "write CALC and an expression, such as CALC 12*3+4"),
        ("CALC " + "9" * 33, "number longer than 32 digits"),
        ("CALC " + "(" * 9 + "1" + ")" * 9, "brackets deeper than 8"),
        ("CALC " + "*".join(["9" * 32] * 9), "the numbers become too long"),
        ("CALC " + "1+" * 600 + "1", "message longer than 1000 characters"),
    ],
)
def test_what_is_no_expression_is_a_short_error(request_: str, error: str) -> None:
    (reply,) = TOOL.reply([fenced(request_)])
    assert not reply.ok
    assert reply.text.startswith(f"error: {error}")


def test_operators_and_depth_are_those_of_the_config() -> None:
    config = CalculatorConfig(operators=("+",), max_depth=0, max_digits=2)
    assert evaluate("12+13", config) == 25
    for text, error in {
        "1-1": r"unknown operator, use \+",
        "(1)": "deeper than 0",
        "123": "longer than 2",
    }.items():
        with pytest.raises(RequestError, match=error):
            evaluate(text, config)


def test_the_longest_numbers_still_fit_a_reply() -> None:
    config = CalculatorConfig(max_digits=32, limits=Limits(max_reply_bytes=32))
    tool = CalculatorTool(config)
    texts = [f"{sign}{'9' * n}*1" for n in range(1, 33) for sign in ("", "-")]
    replies = tool.reply([fenced(f"CALC {text}") for text in texts])
    assert max(len(reply.text) for reply in replies) <= 32
    assert all(reply.ok for reply in replies[: 2 * 30])


@pytest.mark.parametrize(
    ("request_", "max_reply_bytes", "error"),
    [
        ("CALC " + "9" * 900, 256, "reply longer than 256 bytes"),
        ("CALC -" + "9" * 40, 40, "reply longer than 40 bytes"),
        ("CALC " + "*".join(["9" * 900] * 6), 10_000, "the numbers become too long"),
    ],
)
def test_no_config_lets_a_reply_grow_beyond_its_limit_or_beyond_what_python_prints(
    request_: str, max_reply_bytes: int, error: str
) -> None:
    limits = Limits(max_request_chars=10_000, max_reply_bytes=max_reply_bytes)
    tool = CalculatorTool(CalculatorConfig(max_digits=1000, limits=limits))
    assert tool.reply([fenced(request_)]) == [Reply(f"error: {error}", ok=False)]
    (reply,) = tool.reply([fenced("CALC " + "9" * 31)])
    assert reply == Reply("9" * 31, ok=True)


def hostile(rng: random.Random) -> Iterator[str]:
    """Requests of a model that wants to break out or to hang: grammar gone wild, noise, bombs."""
    pieces = [*"0123456789+-*()", "**", "--", "CALC ", "\n", "```", "\0", "٣", "e9", "_", "\ud800", " "]
    bombs = ["9" * 900, "(" * 900, "-" * 900, "9*" * 400 + "9", "(9)*" * 200, "1-" * 450 + "1", "9**" * 300]
    while True:
        kind = rng.randrange(4)
        if kind == 0:
            text = "".join(rng.choices(pieces[:15], k=rng.randrange(1, 200)))
        elif kind == 1:
            text = "".join(rng.choices(pieces, k=rng.randrange(1, 400)))
        elif kind == 2:
            text = "*".join("9" * rng.randrange(1, 40) for _ in range(rng.randrange(1, 60)))
        else:
            text = rng.choice(bombs)[: rng.randrange(1, 1200)]
        yield fenced(f"CALC {text}") if rng.random() < 0.9 else text


def test_hostile_requests_are_answered_briefly_and_at_once() -> None:
    slowest, n_right = 0.0, 0
    requests = hostile(random.Random(0))
    for _ in range(N_HOSTILE):
        request = next(requests)
        began = time.thread_time()
        (reply,) = TOOL.reply([request])
        slowest = max(slowest, time.thread_time() - began)
        n_right += reply.ok
        assert len(reply.text.encode()) <= CONFIG.limits.max_reply_bytes
        assert "\n" not in reply.text
    assert slowest < 0.05  # of the processor, not of the clock
    assert n_right > N_HOSTILE / 100


def test_hostile_requests_take_little_memory() -> None:
    requests = list(islice(hostile(random.Random(1)), 500))
    tracemalloc.start()
    for request in requests:
        TOOL.reply([request])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**20


def test_a_toolbox_asks_the_tool_that_is_meant() -> None:
    class Echo(CalculatorTool):
        closed = False

        def close(self) -> None:
            self.closed = True

    small, large = Echo(CalculatorConfig(max_digits=1)), Echo(CONFIG)
    box = Toolbox({"CALC": large, "SUM": small}, "tool")
    requests = [fenced("CALC 12+1"), fenced("DO 1"), "no request", fenced("SUM 1"), fenced("CALC 2")]
    assert box.role == "tool"
    assert box.answer(requests) == [
        "13",
        "error: unknown command, use CALC or SUM",
        "error: unknown command, use CALC or SUM",
        "error: write CALC and an expression, such as CALC 12*3+4",
        "2",
    ]
    box.close()
    assert small.closed and large.closed
