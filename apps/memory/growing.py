"""A database that begins with the people of a run and grows by whoever is asked about."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from apps.memory.dataset.people import N_PEOPLE, POPULATIONS, Person, find_person
from apps.memory.dataset.sql_db import ensure_database
from nanollama.dialogs.tools import DatabaseConfig, Reply, Tool, build_tool, extract_request
from nanollama.errors import UserError

_PAIR = re.compile(r"(?=\b([A-Za-z]+ [A-Za-z]+)\b)")
"""Two words, which may be a name; each word is looked at with the one before and the one after it."""


class GrowingDatabase(Tool):
    """The people's SQLite database, made longer before it answers about somebody whom it lacks.

    Its replies are those of the database of all people, which takes minutes to make.

    Args:
        root: of the data.
        config: of the tool.
        n_people: of each population that the file holds at least.
    """

    def __init__(self, root: Path, config: DatabaseConfig, n_people: int) -> None:
        self._root = root
        self._config = config
        self._n_people = n_people
        self._tool = build_tool(config)
        self.role = self._tool.role

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """See `Tool`; a database that cannot be made longer answers as it is, and that is said once."""
        n_asked = max((person.index + 1 for request in requests for person in _named(request)), default=0)
        if n_asked > self._n_people:
            try:
                ensure_database(self._root, n_asked)
                longer = build_tool(self._config)
            except UserError as error:
                print(f"Others are not asked about: {error}", file=sys.stderr)
                self._n_people = N_PEOPLE
            else:
                self._tool.close()
                self._tool, self._n_people = longer, n_asked
        return self._tool.reply(requests)

    def who(self, request: str) -> str:
        """See `Tool`."""
        return self._tool.who(request)

    def close(self) -> None:
        """Close the file."""
        self._tool.close()


def _named(request: str) -> Iterator[Person]:
    for pair in _PAIR.findall(extract_request(request) or ""):
        for population in POPULATIONS:
            if (person := find_person(pair, population)) is not None:
                yield person
