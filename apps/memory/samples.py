"""Answers of an examination to look at: a few right ones and a few wrong ones of each set of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apps.memory.dataset.people import ATTRIBUTES
from apps.memory.recall import Answer
from nanollama.report.runs import SampleDialog

N_SHOWN = 2
SET_NAMES = {
    "trained": "trained person",
    "unseen": "person never trained on",
    "new_names": "person of a new name",
    "sums_trained": "sum trained on",
    "sums_unseen": "sum with an operand never trained on",
    "sums_longer": "sum of longer operands",
}
"""What one of a set is."""


def pick_samples(answers: Mapping[str, Sequence[Answer]]) -> list[SampleDialog]:
    """At most two right and two wrong answers of each set, about several people and attributes.

    Those that are right or wrong as most of their set are come first.
    """
    picked = []
    for name, of_set in answers.items():
        # Answers come person by person, attribute by attribute: this stride changes both each time.
        stride = len(ATTRIBUTES) + 1
        mixed = sorted(range(len(of_set)), key=lambda number: number % stride)
        mostly_right = 2 * sum(answer.is_right for answer in of_set) >= len(of_set)
        for is_right in (mostly_right, not mostly_right):
            alike = [of_set[number] for number in mixed if of_set[number].is_right == is_right]
            picked += [_sample(name, answer) for answer in alike[:N_SHOWN]]
    return picked


def _sample(name: str, answer: Answer) -> SampleDialog:
    question = answer.question
    title = f"{SET_NAMES[name]}, {question.attribute.replace('_', ' ')}"
    return SampleDialog(title, question.answer, answer.is_right, answer.messages)
