"""Sums: right values, splits that share no operand, and recall about them."""

from __future__ import annotations

import ast
import operator
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_run import TOKENIZER, toy_config

from apps.memory import sums
from apps.memory.data_settings import SumsConfig
from apps.memory.recall import build_recall, choose_questions, open_tool
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream, read_texts
from apps.memory.sums import HeldOut, is_unseen, n_distinct, sum_dialogs
from nanollama.dialogs.expected import attempt_dialogs
from nanollama.dialogs.tools.config import Operator
from nanollama.errors import ConfigError, UserError
from nanollama.model import build_model
from nanollama.tokenizer import Message

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
CONFIG = SumsConfig(depth=2, n_digits=3)


def value_of(text: str) -> int:
    """By Python's own parser: another reader than ours."""

    def walk(node: ast.expr) -> int:
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int)
            return node.value
        assert isinstance(node, ast.BinOp)
        return int(OPERATORS[type(node.op)](walk(node.left), walk(node.right)))

    return walk(ast.parse(text, mode="eval").body)


def expression_of(dialog_messages: tuple[Message, ...]) -> str:
    return dialog_messages[0].content.removeprefix("What is ").removesuffix("?")


def operands(text: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", text)]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_answers_are_right_and_expressions_as_deep_as_asked(depth: int) -> None:
    dialogs = sum_dialogs(SumsConfig(depth=depth), "trained", "sumstool", 200)
    for dialog in dialogs:
        text = expression_of(dialog.messages)
        assert dialog.answer == f"It is {value_of(text)}"
        assert dialog.messages[-1].content == f"{dialog.answer}."
        assert 2 <= len(operands(text)) <= depth + 1
        assert dialog.messages[1].content.endswith(f"CALC {text}\n```")
    assert max(len(operands(expression_of(dialog.messages))) for dialog in dialogs) == depth + 1
    assert {sign for dialog in dialogs for sign in "+-*" if sign in dialog.messages[0].content} == set("+-*")


def test_splits_share_no_operand_of_several_digits() -> None:
    seen = {
        split: {
            number
            for dialog in sum_dialogs(CONFIG, split, "sums", 2000)
            for number in operands(expression_of(dialog.messages))
        }
        for split in ("trained", "unseen", "longer")
    }
    long = {split: {number for number in numbers if number > 9} for split, numbers in seen.items()}
    assert not long["trained"] & long["unseen"]
    assert is_unseen(np.array(list(long["unseen"])), CONFIG).all()
    assert max(seen["trained"]) <= 999
    assert all(
        len(operands(expression_of(dialog.messages))) == 2
        for dialog in sum_dialogs(CONFIG, "longer", "sums", 50)
    )
    assert {len(str(number)) for number in seen["longer"]} == {CONFIG.n_digits + CONFIG.n_longer_digits}


SUMS = st.builds(
    SumsConfig,
    n_digits=st.integers(2, 4),
    n_longer_digits=st.integers(1, 3),
    depth=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    operators=st.lists(st.sampled_from("+-*"), min_size=1, max_size=3, unique=True),
)


@given(config=SUMS)
@settings(max_examples=15, deadline=None)
def test_no_sum_that_is_asked_about_as_unseen_is_learned_from(config: SumsConfig) -> None:
    """Whoever learns from every one of many sums still has not read one of the others, word for word."""
    learned = {expression_of(dialog.messages) for dialog in sum_dialogs(config, "trained", "sums", 1000)}
    shown = {number for text in learned for number in operands(text)}
    splits: tuple[HeldOut, ...] = ("unseen", "longer")
    for split in splits:
        n_sums = min(100, n_distinct(config, split, 100))
        asked = [expression_of(dialog.messages) for dialog in sum_dialogs(config, split, "sums", n_sums)]
        assert len(set(asked)) == n_sums and not learned & set(asked)
        assert all(set(operands(text)) - shown - set(range(10)) for text in asked)


def written_out(config: SumsConfig) -> set[str]:
    """All unseen expressions of one operator and, if the config has them, of two."""
    several = np.arange(10, 10**config.n_digits)
    kept = several[is_unseen(several, config)].tolist()
    numbers = [*range(10), *kept]
    one = {f"{a}{sign}{b}": sign for a in numbers for sign in config.operators for b in numbers}
    two = set()
    for text, inner in one.items() if config.depth > 1 else ():
        for outer in config.operators:
            left = f"({text})" if outer == "*" and inner != "*" else text
            right = f"({text})" if inner != "*" and outer != "+" else text
            two |= {joined for c in numbers for joined in (f"{left}{outer}{c}", f"{c}{outer}{right}")}
    return {text for text in {*one, *two} if set(operands(text)) & set(kept)}


def test_as_many_unseen_sums_as_there_are_and_none_more() -> None:
    config = SumsConfig(n_digits=2, operators=("-",), seed=3)
    every = written_out(config)
    drawn = sum_dialogs(config, "unseen", "sums", len(every))
    assert {expression_of(dialog.messages) for dialog in drawn} == every
    with pytest.raises(UserError, match=rf"'sums_unseen' are asked about, but data.sums makes {len(every)}:"):
        sum_dialogs(config, "unseen", "sums", len(every) + 1)


@pytest.mark.parametrize("operators", [("+", "-"), ("-", "*"), ("*",)])
def test_unseen_sums_of_two_operators_are_counted_exactly(operators: tuple[Operator, ...]) -> None:
    config = SumsConfig(n_digits=2, depth=2, operators=operators)
    every = written_out(config)
    assert n_distinct(config, "unseen", 10**9) == len(every)
    drawn = {expression_of(dialog.messages) for dialog in sum_dialogs(config, "unseen", "sums", 200)}
    assert drawn <= every


def test_too_few_longer_sums_are_refused() -> None:
    config = SumsConfig(n_digits=2, n_longer_digits=1, operators=("+",))
    assert n_distinct(config, "longer", 10**6) == 900**2
    with pytest.raises(UserError, match=r"recall.n_sums = 810001 different sums of the set 'sums_longer'"):
        sum_dialogs(config, "longer", "sums", 900**2 + 1)


def test_a_seed_that_keeps_no_operand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "UNSEEN_OF", 10**12)
    with pytest.raises(UserError, match=r"but data.sums makes 0:"):
        sum_dialogs(CONFIG, "unseen", "sums", 1)


def test_operands_too_long_to_be_drawn_are_refused() -> None:
    assert len(sum_dialogs(SumsConfig(n_digits=12, n_longer_digits=6), "longer", "sums", 5)) == 5
    with pytest.raises(ValueError, match="make operands of more than 18 digits"):
        SumsConfig(n_digits=12, n_longer_digits=7)


def test_the_first_sums_are_the_same_however_many_are_drawn() -> None:
    assert sum_dialogs(CONFIG, "trained", "sums", 5) == sum_dialogs(CONFIG, "trained", "sums", 50)[:5]
    unseen = [dialog.messages for dialog in sum_dialogs(CONFIG, "unseen", "sums", 300)]
    assert len(set(unseen)) == 300


def sums_config(folder: Path, kinds: list[str], sets: list[str]) -> MemoryConfig:
    data = {"n_people": 2, "sources": [{"kind": kind} for kind in kinds], "sums": {"n_sums": 20}}
    return toy_config(folder, data=data, recall={"n_people": 1, "n_sums": 6, "sets": sets})


def test_a_run_learns_the_sums_and_is_asked_about_each_split(tmp_path: Path) -> None:
    sets = ["sums_trained", "sums_unseen", "sums_longer"]
    config = sums_config(tmp_path, ["sumstool"], sets)
    stream, hashes = build_stream(config)
    assert list(hashes) == ["sumstool"]
    assert stream.batch(0).n_loss_tokens > 0
    with build_recall(config) as recall:
        assert {name: len(of_set) for name, of_set in recall.questions.items()} == dict.fromkeys(sets, 6)
        measures = recall.evaluate(build_model(config.model, torch.Generator()), 0)
    assert measures["recall_sums_longer"] == 0.0
    assert measures["n_prompts_sums_unseen"] == 6
    assert not (tmp_path / "data").exists()


def test_both_tools_are_offered_to_a_model_that_learned_both(tmp_path: Path) -> None:
    config = sums_config(tmp_path, ["sumstool", "qatool"], ["trained", "sums_trained"])
    dialogs = [*choose_questions("trained", config), *choose_questions("sums_trained", config)]
    model = build_model(config.model, torch.Generator())
    with open_tool(config) as tool:
        assert tool is not None and tool.role == "database"
        requests = [dialog.messages[1].content for dialog in dialogs]
        assert tool.answer(requests) == [dialog.messages[2].content for dialog in dialogs]
        attempts = attempt_dialogs(
            model, TOKENIZER, [dialog.messages for dialog in dialogs], tool, max_new_tokens=250
        )
    assert len(attempts) == len(dialogs)


def test_in_weight_sums_have_no_tool(tmp_path: Path) -> None:
    config = sums_config(tmp_path, ["sums"], ["sums_unseen"])
    assert all(len(messages) == 2 for messages in read_texts(config, "sums"))
    with open_tool(config) as tool:
        assert tool is None


@pytest.mark.parametrize(
    ("kinds", "sets", "message"),
    [
        (["qa"], ["trained", "sums_unseen"], "needs a source of kind sums or sumstool"),
        (["sums"], ["trained"], "no source is about people; expected sets among sums_trained"),
    ],
)
def test_sets_of_what_is_not_learned_are_refused(
    tmp_path: Path, kinds: list[str], sets: list[str], message: str
) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        sums_config(tmp_path, kinds, sets)
