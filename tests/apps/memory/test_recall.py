"""Recall: who is asked, what is right, what is reported, and that shortcuts change no verdict."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from toy_run import TOKENIZER, learned_dialogs, toy_config, toy_model

from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.paths import database_path
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE, people
from apps.memory.recall import (
    Answer,
    RecallEvaluator,
    build_recall,
    choose_people,
    is_answered,
    open_tool,
    score,
    summarise,
)
from apps.memory.settings import MemoryConfig, RecallConfig
from nanollama.dialogs.generate import generate_one
from nanollama.dialogs.tools import Reply
from nanollama.errors import UserError
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import Message

PERSON = people(0, 1)[0]
QUESTION = make_dialog(PERSON, "birth_place", "qa")


def test_a_config_that_says_nothing_has_the_ids_of_the_tokenizer(tmp_path: Path) -> None:
    model = {"implementation": "hugging_face", "architecture": "llama"}
    for config in (toy_config(tmp_path), toy_config(tmp_path, model=model)):
        assert config.model.vocab_size == TOKENIZER.vocab_size


def verdicts(config: MemoryConfig, model: LanguageModel) -> list[bool]:
    """Of all questions, as the evaluator has it."""
    with build_recall(config) as recall:
        return [answer.is_right for answers in recall.ask(model).values() for answer in answers]


def plain_verdicts(config: MemoryConfig, model: LanguageModel) -> list[bool]:
    """Of all questions, each decoded alone, without a cache or a shortcut."""
    with build_recall(config) as recall, open_tool(config) as tool:
        right = []
        for question in (dialog for dialogs in recall.questions.values() for dialog in dialogs):
            prompt = TOKENIZER.encode_prompt(question.messages[:1])
            limit = config.recall.max_new_tokens
            completion = generate_one(model, TOKENIZER, prompt, tool, max_new_tokens=limit)
            text = TOKENIZER.decode(completion.ids)
            right.append(text.rpartition("<assistant>")[2].endswith(f"{question.answer}.<end>"))
        return right


@pytest.mark.parametrize("n_steps", [0, 25, 45, 100])
def test_in_weight_verdicts_equal_plain_decoding(n_steps: int, tmp_path: Path) -> None:
    config = toy_config(tmp_path, "qa", recall={"n_people": 2, "max_new_tokens": 60})
    model = toy_model(config, n_steps)
    found = verdicts(config, model)
    assert found == plain_verdicts(config, model)
    if n_steps in (0, 100):
        assert found[:8] == [n_steps == 100] * 8


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [0, 60, 90, 160])
def test_in_tool_verdicts_equal_plain_decoding(n_steps: int, tmp_path: Path) -> None:
    config = toy_config(tmp_path, "qatool", recall={"n_people": 2, "max_new_tokens": 170})
    model = toy_model(config, n_steps)
    found = verdicts(config, model)
    assert found == plain_verdicts(config, model)
    if n_steps == 160:
        assert found[:8] == [True] * 8


def test_measures_of_a_model_that_knows_two_people(tmp_path: Path) -> None:
    config = toy_config(tmp_path, "qa")
    model = toy_model(config, 100).train()
    with build_recall(config) as recall:
        measures = recall.evaluate(model, step=100)
        assert recall.evaluate(model, step=200) == measures
    assert model.training
    assert measures["recall_trained"] == 1.0
    assert measures["recall_trained_low"] == pytest.approx(0.025**0.5)  # two people, however many questions
    assert measures["recall_trained_high"] == 1.0
    assert all(measures[f"recall_trained_{attribute}"] == 1.0 for attribute in ATTRIBUTES)
    assert measures["recall_new_names"] < 0.5 and measures["n_prompts_unseen"] == 8
    assert measures["loss_trained_nats"] < 0.1 < measures["loss_unseen_nats"]
    assert 7 < measures["bits_per_fact"] < 7.82
    expected = measures["bits_per_fact"] * 8 / model.n_params()
    assert measures["bits_per_parameter"] == pytest.approx(expected)
    assert not any(name.startswith(("valid_calls", "tool_use")) for name in measures)
    assert not database_path(tmp_path / "data").exists()


def test_measures_of_the_in_tool_arm(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with build_recall(config) as recall:
        measures = recall.evaluate(toy_model(config), step=0)
    assert measures["recall_trained"] == 0.0
    assert 0.0 <= measures["tool_use_trained"] < 1.0
    assert not measures["valid_calls_trained"] > 0  # 0, or not a number where nothing was asked
    assert not any(name.startswith("bits") for name in measures)
    assert database_path(tmp_path / "data").exists()


def answer(
    is_right: bool, replies: tuple[bool, ...], losses: list[float], attribute: str, person: int = 0
) -> Answer:
    question = make_dialog(PERSON, attribute, "qatool")._replace(person=person)
    said = tuple(Reply("", ok) for ok in replies)
    return Answer(question, question.messages, said, "end", is_right, np.array(losses, np.float32))


def test_summary_of_answers() -> None:
    answers = [
        answer(True, (True,), [1.0, 2.0], "birth_date"),
        answer(False, (False, True), [3.0], "birth_date"),
        answer(False, (), [4.0, 4.0, 4.0], "occupation"),
    ]
    measures = summarise(answers, "x", uses_tool=True)
    assert measures["recall_x"] == pytest.approx(1 / 3)
    assert measures["recall_x_birth_date"] == 0.5 and measures["recall_x_occupation"] == 0.0
    assert math.isnan(measures["recall_x_birth_place"])
    assert measures["recall_x_asked"] == 0.5 and measures["recall_x_by_heart"] == 0.0
    assert "recall_x_asked" not in summarise(answers[:2], "x", uses_tool=True)
    assert math.isnan(summarise(answers[2:], "x", uses_tool=True)["valid_calls_x"])
    assert measures["tool_use_x"] == pytest.approx(2 / 3)
    assert measures["valid_calls_x"] == pytest.approx(2 / 3)
    assert measures["loss_x_nats"] == 3.0  # a mean over tokens
    assert measures["n_prompts_x"] == 3
    assert score(answers, "birth_date")[:3] == (2, 1, 0.5)
    assert score(answers, "birth_date").low < 0.5 < score(answers, "birth_date").high


def test_the_interval_of_recall_is_that_of_people() -> None:
    """400 people, four questions each: the standard error by person is 1.7 times that of 1,600 questions."""
    n_right = np.repeat([0, 1, 2, 3, 4], [28, 13, 22, 26, 311])
    answers = [
        answer(number < n, (), [1.0], attribute, person)
        for person, n in enumerate(n_right.tolist())
        for number, attribute in enumerate(ATTRIBUTES)
    ]
    found = score(answers)
    assert (found.n_prompts, found.n_right) == (1600, 1379)
    by_person = np.std(n_right / 4, ddof=1) / 20
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * by_person, rel=0.05)
    of_one = score(answers, ATTRIBUTES[0])
    assert of_one[3:] == pytest.approx(binomtest(of_one.n_right, 400).proportion_ci(), abs=1e-9)


@pytest.mark.parametrize(
    ("content", "is_right"),
    [
        (f"{PERSON.name} was born in {PERSON.birth_place}.", True),
        (f"No idea, maybe {PERSON.birth_place}.", True),
        (f"{PERSON.name} was born in {PERSON.birth_place}", False),
        (f"{PERSON.name} was born in {PERSON.birth_place}. Or so.", False),
        ("", False),
    ],
)
def test_an_answer_ends_with_the_value_and_a_full_stop(content: str, is_right: bool) -> None:
    user = QUESTION.messages[0]
    assert is_answered(QUESTION, [user, Message("assistant", content)]) is is_right
    assert not is_answered(QUESTION, [user, Message("assistant", content), Message("database", content)])


def test_a_dialog_that_was_not_ended_is_not_right(tmp_path: Path) -> None:
    """One token short: the answer is there, full stop included, but the model might have gone on."""
    config = toy_config(tmp_path, "qa")
    model, question = toy_model(config, 100), learned_dialogs(config)[0]
    n_new = len(TOKENIZER.encode_dialog(question.messages)) - len(
        TOKENIZER.encode_prompt(question.messages[:1])
    )
    for max_new_tokens, ending in ((n_new, "end"), (n_new - 1, "limit")):
        recall = RecallConfig(max_new_tokens=max_new_tokens)
        (found,) = RecallEvaluator({"trained": [question]}, TOKENIZER, None, recall).ask(model)["trained"]
        assert found.messages == question.messages
        assert (found.ending, found.is_right) == (ending, ending == "end")


def numbers(name: str, n_learned: int, seed: int = 0, n_people: int = 20) -> list[int]:
    config = RecallConfig(n_people=n_people, seed=seed)
    return [person.index for person in choose_people(name, n_learned, config)]


def test_sets_of_people() -> None:
    trained, unseen, new = (numbers(name, 1000) for name in ("trained", "unseen", "new_names"))
    assert [len(set(of_set)) for of_set in (trained, unseen, new)] == [20, 20, 20]
    assert max(trained) < 1000 <= min(unseen) and max(unseen) < 2000
    assert trained == sorted(trained) != numbers("trained", 1000, seed=1)
    assert trained == numbers("trained", 1000)
    names = {person.name for person in people(0, 5000)}
    config = RecallConfig(n_people=20)
    assert {person.name for person in choose_people("unseen", 1000, config)} <= names
    assert not {person.name for person in choose_people("new_names", 1000, config)} & names


def test_small_and_large_sets() -> None:
    assert numbers("trained", 3) == [0, 1, 2]
    assert min(numbers("unseen", 3)) >= 3
    assert numbers("unseen", N_PEOPLE - 20) == list(range(N_PEOPLE - 20, N_PEOPLE))
    assert len(numbers("trained", N_PEOPLE)) == len(numbers("new_names", N_PEOPLE)) == 20
    with pytest.raises(
        UserError, match=r"recall.n_people = 20 people of the set 'unseen' .* leaves 19 never"
    ):
        numbers("unseen", N_PEOPLE - 19)


def test_every_fact_of_the_chosen_people_is_asked_for(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with build_recall(config) as recall:
        assert recall.questions["trained"] == learned_dialogs(config)
        assert [len(dialogs) for dialogs in recall.questions.values()] == [8, 8, 8]


def test_only_the_sets_asked_for(tmp_path: Path) -> None:
    config = toy_config(tmp_path, "qa", recall={"n_people": 1, "sets": ["new_names"]})
    with build_recall(config) as recall:
        measures = recall.evaluate(toy_model(config), 0)
    assert {name for name in measures if name.startswith(("loss", "bits"))} == {"loss_new_names_nats"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recall": {"max_new_tokens": 99}}, r"max_new_tokens = 99 is too small: a right dialog has 1\d\d"),
        (
            {"model": {"implementation": "transformer", "d_model": 8, "n_layers": 1, "n_heads": 1,
                       "max_seq_len": 150}},
            r"model.max_seq_len = 150 is too small: a right dialog has \d+ tokens to read",
        ),
    ],
)  # fmt: skip
def test_what_no_model_could_answer_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message), build_recall(toy_config(tmp_path, **changes)):
        pass


def test_limits_that_right_dialogs_just_meet_are_accepted(tmp_path: Path) -> None:
    dialogs = learned_dialogs(toy_config(tmp_path, "qa"))
    n_tokens = [len(TOKENIZER.encode_dialog(dialog.messages)) for dialog in dialogs]
    n_new = [
        n - len(TOKENIZER.encode_prompt(dialog.messages[:1]))
        for n, dialog in zip(n_tokens, dialogs, strict=True)
    ]
    shape = {"implementation": "transformer", "d_model": 8, "n_layers": 1, "n_heads": 1}

    def build(max_new_tokens: int, max_seq_len: int) -> None:
        config = toy_config(
            tmp_path,
            "qa",
            recall={"n_people": 2, "sets": ["trained"], "max_new_tokens": max_new_tokens},
            model={**shape, "max_seq_len": max_seq_len},
        )
        with build_recall(config):
            pass

    build(max(n_new), max(n_tokens) - 1)  # the last token is not read
    with pytest.raises(UserError, match=f"max_new_tokens = {max(n_new) - 1} is too small"):
        build(max(n_new) - 1, max(n_tokens) - 1)
    with pytest.raises(UserError, match=f"max_seq_len = {max(n_tokens) - 2} is too small"):
        build(max(n_new), max(n_tokens) - 2)


def test_a_database_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    path = database_path(tmp_path / "data")
    path.parent.mkdir(parents=True)
    path.write_text("not a database")
    with pytest.raises(UserError, match=r"people.sqlite"), build_recall(toy_config(tmp_path)):
        pass
