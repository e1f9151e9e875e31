"""Dialogs settled in one pass: the same as decoding them, whatever the model and the tool do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from toy_dialogs import (
    FACTS,
    TOKENIZER,
    FactTool,
    scripted_model,
    toy_dialog,
    toy_dialogs,
    toy_model,
)

from nanollama.dialogs import expected
from nanollama.dialogs.expected import Attempt, attempt_dialogs
from nanollama.dialogs.generate import Completion, generate_one
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import Message

STRANGERS = [toy_dialog("x", "red"), toy_dialog("y", "blue"), toy_dialog("zz", "grey")]
PLAIN = [Message("user", "a"), Message("assistant", "a: red.")]


def decode(
    model: LanguageModel,
    dialogs: Sequence[Sequence[Message]],
    tool: FactTool | None,
    max_new_tokens: int = 40,
) -> list[Completion]:
    """Each dialog decoded plainly, from its first message."""
    prompts = [TOKENIZER.encode_prompt(dialog[:1]) for dialog in dialogs]
    return [generate_one(model, TOKENIZER, prompt, tool, max_new_tokens=max_new_tokens) for prompt in prompts]


def completions_of(attempts: Sequence[Attempt]) -> list[Completion]:
    return [attempt.completion for attempt in attempts]


@pytest.mark.parametrize("n_steps", [0, 5, 8, 11, 60])
def test_attempts_are_what_decoding_writes(n_steps: int) -> None:
    model, dialogs = toy_model(n_steps), [*toy_dialogs(), *STRANGERS, PLAIN]
    attempts = attempt_dialogs(model, TOKENIZER, dialogs, FactTool(), max_new_tokens=40, batch_size=4)
    assert completions_of(attempts) == decode(model, dialogs, FactTool())


@pytest.mark.parametrize("facts", [FACTS | {"a": "blue", "c": ""}, {}], ids=["other facts", "no facts"])
def test_the_live_tool_has_the_last_word(facts: dict[str, str]) -> None:
    model = toy_model(60)
    attempts = attempt_dialogs(model, TOKENIZER, toy_dialogs(), FactTool(facts), max_new_tokens=40)
    assert completions_of(attempts) == decode(model, toy_dialogs(), FactTool(facts))
    assert attempts[0].completion.replies[0].text == facts.get("a", "unknown")


def test_without_a_tool_handing_over_is_malformed() -> None:
    model = toy_model(60)
    attempts = attempt_dialogs(model, TOKENIZER, toy_dialogs(), None, max_new_tokens=40)
    assert completions_of(attempts) == decode(model, toy_dialogs(), None)
    assert {attempt.completion.ending for attempt in attempts} == {"malformed"}


def test_right_dialogs_take_one_pass_and_one_batch_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decoder = expected.continue_dialogs

    def count(*arguments: object, **keywords: object) -> list[Completion]:
        prompts = arguments[2]
        assert isinstance(prompts, list)
        decoded.extend(map(len, prompts))
        return decoder(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(expected, "continue_dialogs", count)
    tool = FactTool()
    attempt_dialogs(toy_model(60), TOKENIZER, toy_dialogs(), tool, max_new_tokens=40)
    assert decoded == []
    assert tool.batches == [[f"?{letter}" for letter in FACTS]]
    attempt_dialogs(toy_model(60), TOKENIZER, [toy_dialog("a", "red"), STRANGERS[0]], tool, max_new_tokens=40)
    assert len(decoded) == 1


def test_decoding_starts_where_the_model_departs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer should be in other words: what comes before it, the request included, is certain."""
    prefixes: list[str] = []
    decoder = expected.continue_dialogs

    def record(*arguments: object, **keywords: object) -> list[Completion]:
        prefixes.extend(map(TOKENIZER.decode, arguments[2]))  # type: ignore[call-overload]
        return decoder(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(expected, "continue_dialogs", record)
    dialog = [*toy_dialog("a", "red")[:3], Message("assistant", "a: RED.")]
    model = toy_model(60)
    (attempt,) = attempt_dialogs(model, TOKENIZER, [dialog], FactTool(), max_new_tokens=40)
    assert prefixes == ["<user>a<assistant>?a<database>red<assistant>a: "]
    assert attempt.completion == decode(model, [dialog], FactTool())[0]


def test_a_tie_is_not_certain() -> None:
    """Greedy decoding takes the first of two equals; a dialog that takes the other is not what it writes."""
    model = scripted_model({"<assistant>": "x", "x": "<end>", "y": "<end>"}, {"<assistant>": "y"})
    dialogs = [[Message("user", "a"), Message("assistant", answer)] for answer in "xy"]
    attempts = attempt_dialogs(model, TOKENIZER, dialogs, None, max_new_tokens=9)
    assert completions_of(attempts) == decode(model, dialogs, None, 9)
    assert attempts[0].completion == attempts[1].completion


@pytest.mark.parametrize("max_new_tokens", [3, 7, 16, 17])
def test_limits_hold_for_right_dialogs_too(max_new_tokens: int) -> None:
    model = toy_model(60)
    attempts = attempt_dialogs(model, TOKENIZER, toy_dialogs(), FactTool(), max_new_tokens=max_new_tokens)
    assert completions_of(attempts) == decode(model, toy_dialogs(), FactTool(), max_new_tokens)


def test_losses_are_those_of_a_plain_pass() -> None:
    model, dialogs = toy_model(8), [*toy_dialogs(), *STRANGERS]
    attempts = attempt_dialogs(model, TOKENIZER, dialogs, FactTool(), max_new_tokens=40)
    for messages, attempt in zip(dialogs, attempts, strict=True):
        dialog = TOKENIZER.encode_dialog(messages)
        ids = torch.from_numpy(dialog.ids)
        with torch.no_grad():
            losses = F.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="none")
        learned = losses[torch.from_numpy(dialog.loss_mask[1:])]
        torch.testing.assert_close(torch.from_numpy(attempt.loss_nats), learned, rtol=1e-4, atol=1e-5)


def test_the_longest_dialog_that_can_be_read_is_attempted() -> None:
    dialog = toy_dialog("a", "red")
    n_tokens = len(TOKENIZER.encode_dialog(dialog))
    model = toy_model(max_seq_len=n_tokens - 1)
    attempts = attempt_dialogs(model, TOKENIZER, [dialog], FactTool(), max_new_tokens=99)
    assert completions_of(attempts) == decode(model, [dialog], FactTool(), 99)
    with pytest.raises(ValueError, match=f"A dialog of {n_tokens} tokens is too long for a model that reads"):
        attempt_dialogs(
            toy_model(max_seq_len=n_tokens - 2), TOKENIZER, [dialog], FactTool(), max_new_tokens=99
        )


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", "a")],
        [Message("user", "a"), Message("assistant", "?a"), Message("database", "red")],
        [],
    ],
)
def test_a_dialog_ends_with_the_assistant(messages: list[Message]) -> None:
    with pytest.raises(ValueError, match="A dialog ends with a turn of the assistant, got"):
        attempt_dialogs(toy_model(), TOKENIZER, [messages], FactTool(), max_new_tokens=9)


def test_a_dialog_may_begin_with_the_assistant() -> None:
    (attempt,) = attempt_dialogs(
        scripted_model({"<assistant>": "x", "x": "<end>"}),
        TOKENIZER,
        [[Message("assistant", "x")]],
        max_new_tokens=9,
    )
    assert TOKENIZER.decode(attempt.completion.ids) == "<assistant>x<end>"


def test_no_dialogs_no_attempts() -> None:
    assert attempt_dialogs(toy_model(), TOKENIZER, [], FactTool(), max_new_tokens=9) == []
