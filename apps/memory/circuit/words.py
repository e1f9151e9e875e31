"""The fixed words of the dialogs, cut into letters that are due at a number of tokens: what a hand-built
model knows.

Questions are ``<words> NAME <words>``, requests ``<words> NAME <fence>``, answers ``<words> NAME <words>
VALUE .``; all numbers count bytes, which are tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.people import ATTRIBUTES, Person
from apps.memory.dataset.templates import Templates
from nanollama.errors import UserError

# Characters that no template holds, in the place of name and value.
_NAME, _VALUE = "\ue000", "\ue001"


class Letter(NamedTuple):
    """A token of the fixed words, and when it is due.

    Args:
        byte: the token; None for ``<database>``.
        attributes: of the questions that want it.
        answering: in the answer, or in the request?
        behind_name: is `number` counted from the turn's start less the length of the name, or from its start?
        number: of tokens since then.
    """

    byte: int | None
    attributes: tuple[str, ...]
    answering: bool
    behind_name: bool
    number: int


class Words:
    """The fixed words of all attributes.

    Raises:
        UserError: the templates have another form, or no letter of the questions tells the attribute.
    """

    def __init__(self, templates: Templates | None = None, attributes: Sequence[str] = ATTRIBUTES) -> None:
        self.attributes = tuple(attributes)
        marked = Person(0, _NAME, *[_VALUE] * len(ATTRIBUTES))
        self._questions, self._requests, self._answers = {}, {}, {}
        for attribute in self.attributes:
            question, request, _, answer = make_dialog(
                marked, attribute, "qatool", "find", templates
            ).messages
            self._questions[attribute] = _cut(question.content, _NAME)
            self._requests[attribute] = _cut(request.content, _NAME)
            lead, rest = _cut(answer.content, _NAME)
            middle, _ = _cut(rest.decode(), _VALUE)
            self._answers[attribute] = (lead, middle)
        self.telling_position, self.telling_letters = self._find_telling_letters()

    def name_start(self, attribute: str) -> int:
        """Position of the name in a dialog."""
        return 1 + len(self._questions[attribute][0])

    def n_behind_name(self, attribute: str) -> int:
        """Tokens of the question behind the name."""
        return len(self._questions[attribute][1])

    def request(self, attribute: str) -> bytes:
        """The request up to the name."""
        return self._requests[attribute][0]

    def answer(self, attribute: str) -> tuple[bytes, bytes]:
        """The answer up to the name, and between name and value."""
        return self._answers[attribute]

    def n_answer_words(self, attribute: str) -> int:
        """Tokens of the answer before the value, the name's not counted."""
        return sum(map(len, self.answer(attribute)))

    def letters(self) -> Iterator[Letter]:
        """Every letter of the fixed words of both turns; letters that several attributes share come once."""
        due: dict[Letter, list[str]] = {}
        for attribute in self.attributes:
            request, fence = self._requests[attribute]
            lead, middle = self._answers[attribute]
            parts = (
                (request, False, False, 0),
                (fence, False, True, len(request)),
                (lead, True, False, 0),
                (middle, True, True, len(lead)),
            )
            for text, answering, behind_name, start in parts:
                for number, byte in enumerate(text, start):
                    due.setdefault(Letter(byte, (), answering, behind_name, number), []).append(attribute)
            ending = Letter(None, (), False, True, len(request) + len(fence))
            due.setdefault(ending, []).append(attribute)
        for letter, attributes in due.items():
            yield letter._replace(attributes=tuple(attributes))

    def _find_telling_letters(self) -> tuple[int, tuple[int, ...]]:
        """A position at which the questions of all attributes differ, and their letters there."""
        leads = [lead for lead, _ in self._questions.values()]
        for index, letters in enumerate(zip(*leads, strict=False)):
            if len(set(letters)) == len(leads):
                return 1 + index, letters
        raise UserError(
            "The circuit tells attributes apart by one letter before the name, but no letter differs in all "
            f"questions: {', '.join(repr(lead.decode()) for lead in leads)}; edit the templates' questions."
        )


def _cut(text: str, mark: str) -> tuple[bytes, bytes]:
    parts = text.encode().split(mark.encode())
    if len(parts) != 2:
        raise UserError(
            "The circuit needs the name once in each question and answer, and not in the words of a request; "
            f"got '{text.replace(_NAME, '{name}').replace(_VALUE, '{value}')}'."
        )
    return parts[0], parts[1]
