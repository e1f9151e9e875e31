"""Which answers of an examination are shown."""

from __future__ import annotations

import numpy as np

from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from apps.memory.recall import Answer
from apps.memory.samples import pick_samples


def answers(rights: list[bool]) -> list[Answer]:
    """Answers about so many facts, person by person."""
    questions = [make_dialog(person, name, "qa") for person in people(0, 20) for name in ATTRIBUTES]
    return [
        Answer(question, question.messages, (), "end", is_right, np.zeros(3))
        for question, is_right in zip(questions, rights, strict=False)
    ]


def test_two_right_and_two_wrong_ones_of_each_set() -> None:
    samples = pick_samples({"trained": answers([True] * 40), "unseen": answers([True, False] * 20)})
    assert [(sample.title.partition(",")[0], sample.is_right) for sample in samples] == [
        ("trained person", True),
        ("trained person", True),
        ("person never trained on", True),
        ("person never trained on", True),
        ("person never trained on", False),
        ("person never trained on", False),
    ]


def test_samples_are_about_several_people_and_attributes() -> None:
    first, second = pick_samples({"new_names": answers([True] * 40)})
    assert first.messages[0].content != second.messages[0].content
    assert first.title == "person of a new name, birth date"
    assert second.title == "person of a new name, birth place"
    assert (first.expected, second.expected) == (people(0, 1)[0].birth_date, people(1, 2)[0].birth_place)
    assert people(0, 1)[0].name in first.messages[0].content
    assert people(0, 1)[0].name not in second.messages[0].content


def test_a_few_answers_are_enough() -> None:
    assert len(pick_samples({"trained": answers([True])})) == 1
    assert pick_samples({"trained": []}) == []
