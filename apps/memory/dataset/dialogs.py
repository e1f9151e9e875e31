"""Dialogs: a question about one fact of a person, answered by heart or with the help of a database.

Kinds: ``qa`` (question, answer) and ``qatool`` (question, request to the database, its reply, answer). A
request is a sentence and a fenced block, in the language ``find``::

    I do not know this by heart, so I will look it up in the database:
    ```
    FIND birth_place FOR Ann Bell
    ```

or in the language ``sql``, where the block holds ``SELECT birth_place FROM people WHERE name = 'Ann Bell';``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from apps.memory.dataset.people import ATTRIBUTES, Person
from apps.memory.dataset.templates import Templates, default_templates
from nanollama.tokenizer import Message

DialogKind = Literal["qa", "qatool"]
Language = Literal["find", "sql"]

DIALOG_KINDS: tuple[DialogKind, ...] = get_args(DialogKind)
LANGUAGES: tuple[Language, ...] = get_args(Language)

_COMMANDS = {
    "find": "FIND {attribute} FOR {name}",
    "sql": "SELECT {attribute} FROM people WHERE name = '{name}';",
}


class Dialog(NamedTuple):
    """A dialog about one fact of person number `person`; right if it ends with ``<answer>.``"""

    person: int
    attribute: str
    answer: str
    messages: tuple[Message, ...]


def make_dialog(
    person: Person,
    attribute: str,
    kind: DialogKind,
    language: Language = "find",
    templates: Templates | None = None,
) -> Dialog:
    """The dialog of one kind about one fact.

    Args:
        person: whom it is about.
        attribute: which fact, one of `ATTRIBUTES`.
        kind: answered by heart (``qa``) or through the database (``qatool``).
        language: the language of the request; without effect on ``qa``.
        templates: its texts; None: those of `templates.yaml`.

    Raises:
        ValueError: unknown attribute, kind or language.
    """
    for value, known in ((attribute, ATTRIBUTES), (kind, DIALOG_KINDS), (language, LANGUAGES)):
        if value not in known:
            raise ValueError(f"'{value}' is not one of {list(known)}.")
    templates = templates or default_templates()
    fields = person._asdict()
    answer = fields[attribute]
    if kind == "qa":
        texts = getattr(templates.qa, attribute)
        lookup = []
    else:
        texts = getattr(templates.qatool, attribute)
        command = _COMMANDS[language].format(attribute=attribute, name=person.name)
        request = f"{texts.request.format(**fields)}\n```\n{command}\n```"
        lookup = [Message("assistant", request), Message("database", answer)]
    question = Message("user", texts.question.format(**fields))
    reply = Message("assistant", texts.answer.format(**fields))
    return Dialog(person.index, attribute, answer, (question, *lookup, reply))


def make_biography(person: Person, templates: Templates | None = None) -> str:
    """One text with all facts of a person."""
    templates = templates or default_templates()
    return templates.biography.format(**person._asdict())
