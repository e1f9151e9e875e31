"""JSON lines of many people, fast.

The lines of a person are made once, with a mark in the place of each of the person's fields, and turned into
a format pattern; each person then costs one `str.format`. Fields go in unescaped: names and values of the
word lists read the same in JSON (a test keeps them so), while all other text went through `json.dumps`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from apps.memory.dataset.dialogs import Dialog, DialogKind, Language, make_biography, make_dialog
from apps.memory.dataset.people import ATTRIBUTES, Person
from apps.memory.dataset.templates import Templates

# Characters of private use: templates are printable, so none holds them, and JSON leaves them as they are.
_MARKED = Person(0, "\ue000", "\ue001", "\ue002", "\ue003", "\ue004")
_INDEX = '"person": '  # in a text, its quotes would be escaped


def person_line(person: Person) -> str:
    """A person as a line of JSON."""
    index, *fields = person
    return _line({"person": index, **dict(zip(Person._fields[1:], fields, strict=True))})


def biography_line(person: Person, templates: Templates | None = None) -> str:
    """A person's biography as a line of JSON."""
    return _line({"person": person.index, "text": make_biography(person, templates)})


def dialog_line(dialog: Dialog) -> str:
    """A dialog as a line of JSON."""
    return _line({**dialog._asdict(), "messages": [message._asdict() for message in dialog.messages]})


def people_pattern() -> str:
    """Format pattern of a person's line; to be filled in by `render`."""
    return _pattern(person_line(_MARKED))


def biographies_pattern(templates: Templates | None = None) -> str:
    """Format pattern of a person's biography."""
    return _pattern(biography_line(_MARKED, templates))


def dialogs_pattern(kind: DialogKind, language: Language, templates: Templates | None = None) -> str:
    """Format pattern of a person's dialogs, one line an attribute."""
    dialogs = (make_dialog(_MARKED, attribute, kind, language, templates) for attribute in ATTRIBUTES)
    return _pattern("".join(map(dialog_line, dialogs)))


def render(pattern: str, people: Iterable[Person]) -> bytes:
    """The lines of these people, UTF-8."""
    return "".join([pattern.format(*person) for person in people]).encode("utf-8")


def _line(record: dict[str, object]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _pattern(lines: str) -> str:
    pattern = lines.replace("{", "{{").replace("}", "}}").replace(f"{_INDEX}0", f"{_INDEX}{{0}}")
    for position, mark in enumerate(_MARKED[1:], start=1):
        pattern = pattern.replace(mark, f"{{{position}}}")
    return pattern
