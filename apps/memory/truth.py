"""What is true of a question, where the study knows it: about its people, and about sums."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from apps.memory.dataset.dependent import N_DEPENDENT_PEOPLE, dependent_people
from apps.memory.dataset.dialogs import Dialog, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, Person, find_person
from apps.memory.dataset.templates import default_templates
from apps.memory.learned import learned_before
from apps.memory.settings import MemoryConfig
from apps.memory.sums import make_sum_dialog
from nanollama.dialogs.tools.replies import RequestError

LEARNED, UNSEEN, NEW, SUM = "learned about", "never seen", "new names", "a sum"
SUM_WORDS = "What is ", "?"


class Known(NamedTuple):
    """The dialog of a question as it should be, and who or what it is about."""

    dialog: Dialog
    about: str


def known_about(question: str, config: MemoryConfig) -> Known | None:
    """What is known of a question that is worded as a model of this study learns it; None of any other."""
    opening, end = SUM_WORDS
    if question.startswith(opening) and question.endswith(end):
        try:
            expression = question[len(opening) : -len(end)]
            dialog = make_sum_dialog(0, expression, "sums", config.data.sums.calculator)
        except RequestError:
            return None
        return Known(dialog, SUM)
    for attribute, name in _asked(question):
        if (found := _person(name, config)) is not None:
            person, about = found
            return Known(make_dialog(person, attribute, "qa"), about)
    return None


def _asked(question: str) -> Iterator[tuple[str, str]]:
    """Attributes that a question may be about, each with the name that stands in it then."""
    templates = default_templates()
    for facts in (templates.qa, templates.qatool):
        for attribute in ATTRIBUTES:
            text = getattr(facts, attribute).question
            before, _, after = text.format(name="\0").partition("\0")
            name = question[len(before) :].partition(after)[0] if question.startswith(before) else ""
            if name and text.format(name=name) == question:
                yield attribute, name


def _person(name: str, config: MemoryConfig) -> tuple[Person, str] | None:
    """The person of a name, and what they are to a run."""
    data = config.data
    if data.dependence is not None:
        person = _dependent(data.dependence.alpha, data.dependence.seed).get(name)
    elif (person := find_person(name, "new")) is not None:
        return person, NEW
    else:
        person = find_person(name, "train")
    if person is None:
        return None
    return person, LEARNED if person.index < _n_learned(config) else UNSEEN


def _n_learned(config: MemoryConfig) -> int:
    """So many of the first people a run has learned about, itself or by weights that it started from."""
    before = (source.data for _, source in learned_before(config) if isinstance(source, MemoryConfig))
    data = [config.data, *before]
    alike = [one for one in data if one.tells_of_people and one.dependence == config.data.dependence]
    return max((one.n_people for one in alike), default=0)


@lru_cache(maxsize=1)
def _dependent(alpha: float, seed: int) -> dict[str, Person]:
    return {person.name: person for person in dependent_people(alpha, N_DEPENDENT_PEOPLE, seed)}
