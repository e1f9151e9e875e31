"""Templates are checked with file, line and key; dialogs say what they should, in the sizes they should."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.memory.dataset.dialogs import DIALOG_KINDS, LANGUAGES, make_biography, make_dialog
from apps.memory.dataset.lines import (
    biographies_pattern,
    biography_line,
    dialog_line,
    dialogs_pattern,
    people_pattern,
    person_line,
    render,
)
from apps.memory.dataset.people import ATTRIBUTES, POPULATIONS, Person, people
from apps.memory.dataset.templates import (
    TEMPLATES_PATH,
    AnswerTexts,
    Facts,
    Templates,
    ToolTexts,
    default_templates,
    load_templates,
)
from apps.memory.sources import build_tokenizer
from nanollama.errors import ConfigError
from nanollama.tokenizer import Message

ANN = Person(12, "Ann Bell", "1970-05-01", "Chile", "Oslo", "baker")
REQUEST = "I do not know this by heart, so I will look it up in the database:"
BIRTH_ANSWER = 'answer: "{name} was born on {birth_date}."'
BIRTH_QUESTION = 'question: "When was {name} born?"'

# what a user writes in place of what stands in templates.yaml (its first occurrence), and what they are told
BROKEN = [
    (f"    {BIRTH_ANSWER}\n", "", r":11: qa\.birth_date\.answer: required key is missing"),
    (
        BIRTH_ANSWER,
        'answer: "{name} was born on {birth_date}"',
        r":11: qa\.birth_date: the answer must end with '\{birth_date\}\.', got '",
    ),
    (
        BIRTH_ANSWER,
        'answer: "{birthdate}."',
        r":11: qa\.birth_date: the answer must not hold \{birthdate\}, expected no placeholder but \{",
    ),
    (
        BIRTH_ANSWER,
        'answer: "{name} was born on {birth_date}, or so."',
        r":11: qa\.birth_date: the answer must end with '\{birth_date\}\.', got '.* or so\.'",
    ),
    (BIRTH_ANSWER, 'answer: "{{birth_date}}."', r"qa\.birth_date: the answer must hold \{birth_date\}"),
    (BIRTH_QUESTION, 'question: "When was {name born?"', r":12: qa\.birth_date\.question: has a stray brace"),
    (BIRTH_QUESTION, 'question: "When?"', r":12: qa\.birth_date\.question: must hold \{name\}, got 'When\?'"),
    (
        BIRTH_QUESTION,
        'question: "Was {name} born on {birth_date}?"',
        r":12: qa\.birth_date\.question: must not hold \{birth_date\}",
    ),
    (BIRTH_QUESTION, 'question: "{name!r}?"', r"question: must not hold \{name!r\}"),
    (BIRTH_QUESTION, 'question: "{name:>9}?"', r"question: must not hold \{name:>9\}"),
    (BIRTH_QUESTION, 'question: "{} {name}?"', r"question: must not hold \{\}"),
    (BIRTH_QUESTION, 'question: "{name}\\t?"', r"question: must hold printable characters and line breaks"),
    (BIRTH_QUESTION, 'question: "{name}\\ue001?"', r"question: must hold printable characters"),
    (BIRTH_QUESTION, "question: 3", r":12: qa\.birth_date\.question: expected a text, got 3"),
    (REQUEST, "```", r":27: qatool\.birth_date\.request: must not hold ```"),
    (REQUEST, "{occupation}", r":27: qatool\.birth_date\.request: must not hold \{occupation\}"),
    ("lives in {current_address}", "lives", r":8: biography: must hold \{current_address\}"),
    ("  birth_date:\n", "  birthdate:\n", r":11: qa\.birthdate: unknown key; did you mean 'birth_date'\?"),
]


@pytest.mark.parametrize(("there", "written", "message"), BROKEN)
def test_broken_templates_are_refused_with_their_place(tmp_path, there, written, message):
    text = TEMPLATES_PATH.read_text(encoding="utf-8")
    assert there in text
    path = tmp_path / "templates.yaml"
    path.write_text(text.replace(there, written, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"templates\.yaml.*{message}"):
        load_templates(path)


def test_a_missing_file_of_templates_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: no such file"):
        load_templates(tmp_path / "no.yaml")


def test_qa_dialog():
    dialog = make_dialog(ANN, "birth_place", "qa")
    assert dialog[:3] == (12, "birth_place", "Chile")
    assert dialog.messages == (
        Message("user", "Where was Ann Bell born?"),
        Message("assistant", "Ann Bell was born in Chile."),
    )


@pytest.mark.parametrize(
    ("language", "command"),
    [
        ("find", "FIND birth_date FOR Ann Bell"),
        ("sql", "SELECT birth_date FROM people WHERE name = 'Ann Bell';"),
    ],
)
def test_qatool_dialog(language, command):
    dialog = make_dialog(ANN, "birth_date", "qatool", language)
    assert dialog.messages == (
        Message("user", "When was Ann Bell born?"),
        Message("assistant", f"{REQUEST}\n```\n{command}\n```"),
        Message("database", "1970-05-01"),
        Message("assistant", "Ann Bell was born on 1970-05-01."),
    )


def test_biography():
    assert make_biography(ANN) == (
        "Ann Bell was born in Chile on 1970-05-01. Ann Bell lives in Oslo and works as a baker."
    )


@pytest.mark.parametrize(
    ("attribute", "kind", "language"),
    [("age", "qa", "find"), ("occupation", "qb", "find"), ("occupation", "qatool", "spl")],
)
def test_unknown_dialogs_are_refused(attribute, kind, language):
    with pytest.raises(ValueError, match=r"'(age|qb|spl)' is not one of \["):
        make_dialog(ANN, attribute, kind, language)


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("kind", "mean", "longest"), [("qa", 68, 100), ("qatool", 188, 239)])
def test_dialogs_have_the_published_sizes(population, kind, mean, longest):
    tokenizer = build_tokenizer()
    sizes = [
        len(tokenizer.encode_dialog(make_dialog(person, attribute, kind).messages))
        for person in people(0, 1000, population)
        for attribute in ATTRIBUTES
    ]
    assert sum(sizes) / len(sizes) == pytest.approx(mean, rel=0.04)
    assert max(sizes) <= longest


@pytest.mark.parametrize("kind", DIALOG_KINDS)
def test_only_the_right_answer_passes(kind):
    crowd = people(0, 50)
    for attribute in ATTRIBUTES:
        for person in crowd:
            dialog = make_dialog(person, attribute, kind)
            assert dialog.messages[-1].content.endswith(f"{dialog.answer}.")
            others = {getattr(other, attribute) for other in crowd} - {dialog.answer}
            assert not [value for value in others if dialog.messages[-1].content.endswith(f"{value}.")]


@st.composite
def texts(draw, placeholders, last=""):
    """A template with these placeholders among any printable text, the signs of JSON and Python included."""
    printable = st.characters(exclude_categories=("C", "Z")) | st.sampled_from(' "\\{}%\n$')
    pieces = [f"{{{name}}}" for name in draw(st.permutations(placeholders))]
    for position in range(len(pieces) + 1):
        word = draw(st.text(printable, max_size=6))
        pieces.insert(2 * position, word.replace("`", "'").replace("{", "{{").replace("}", "}}"))
    return "".join(pieces) + (f"{{{last}}}." if last else "")


@st.composite
def templates(draw):
    """Any templates a user could write."""

    def question_and_answer(attribute):
        return {"question": draw(texts(["name"])), "answer": draw(texts(["name"], last=attribute))}

    qa = {attribute: AnswerTexts(**question_and_answer(attribute)) for attribute in ATTRIBUTES}
    qatool = {
        attribute: ToolTexts(**question_and_answer(attribute), request=draw(texts([])))
        for attribute in ATTRIBUTES
    }
    biography = draw(texts(["name", *ATTRIBUTES]))
    return Templates(biography=biography, qa=Facts[AnswerTexts](**qa), qatool=Facts[ToolTexts](**qatool))


@given(templates())
@settings(max_examples=30, derandomize=True, deadline=None)
def test_fast_lines_are_what_json_writes(edited):
    crowd = [*people(0, 2), *people(168_000, 168_001)]
    for kind, language in product(DIALOG_KINDS, LANGUAGES):
        lines = [
            dialog_line(make_dialog(person, attribute, kind, language, edited))
            for person in crowd
            for attribute in ATTRIBUTES
        ]
        assert render(dialogs_pattern(kind, language, edited), crowd) == "".join(lines).encode()
    lines = [biography_line(person, edited) for person in crowd]
    assert render(biographies_pattern(edited), crowd) == "".join(lines).encode()


def test_lines_hold_the_dialogs():
    for kind in DIALOG_KINDS:
        line = json.loads(dialog_line(make_dialog(ANN, "occupation", kind)))
        assert list(line) == ["person", "attribute", "answer", "messages"]
        assert line["person"] == 12
        messages = [Message(**message) for message in line["messages"]]
        assert messages == list(make_dialog(ANN, "occupation", kind).messages)
    assert json.loads(biography_line(ANN)) == {"person": 12, "text": make_biography(ANN)}
    assert json.loads(person_line(ANN)) == {
        "person": 12,
        "name": "Ann Bell",
        "birth_date": "1970-05-01",
        "birth_place": "Chile",
        "current_address": "Oslo",
        "occupation": "baker",
    }
    assert render(people_pattern(), [ANN, ANN]).decode() == 2 * person_line(ANN)


def test_the_shipped_templates_are_read_once():
    assert default_templates() is default_templates()
    assert re.fullmatch(r"\{name\} .*\.", default_templates().biography)
