"""Which lessons have been run as they are, so that pages show what they print, and what pages say of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

LESSONS = "LESSONS"
"""In the environment: ``run`` runs those that have not been run; ``make lessons`` sets it."""
NOT_RUN = "*Shown without what it prints: `make lessons` runs all lessons, some ten minutes on two cores.*"


def run_on(lessons: Path, cache: Path) -> dict[str, date]:
    """When each lesson was run, by the name of its file; those whose code was another then are left out.

    Args:
        lessons: their folder.
        cache: what `make lessons` has written.
    """
    if not (cache / "global.db").is_file():
        return {}
    import jupytext
    from jupyter_cache import get_cache

    known, found = get_cache(cache), {}
    for path in sorted(lessons.glob("*.py")):
        try:
            record = known.match_cache_notebook(jupytext.read(path, fmt="py:percent"))
        except KeyError:
            continue
        found[path.name] = record.created.date()
    return found


def left_alone(lessons: Path, dates: dict[str, date]) -> list[str]:
    """Patterns of lessons that a build leaves alone: with `LESSONS` none, else what it would have to run."""
    if os.environ.get(LESSONS) == "run":
        return []
    return [f"{lessons.name}/{path.name}" for path in sorted(lessons.glob("*.py")) if path.name not in dates]


def note(name: str, dates: dict[str, date]) -> str:
    """What the page of a lesson says of its outputs."""
    if name not in dates and os.environ.get(LESSONS) != "run":
        return NOT_RUN
    return f"*With what it printed when `make lessons` ran it, {dates.get(name, date.today()):%Y-%m-%d}.*"


def with_note(text: str, said: str) -> str:
    """The text of a lesson with a paragraph below its title."""
    return "".join(_lines(text, said))


def _lines(text: str, said: str) -> Iterator[str]:
    is_told = False
    for line in text.splitlines(keepends=True):
        yield line
        if not is_told and line.startswith("# # "):
            is_told = True
            yield f"#\n# {said}\n"
