"""Words that messages to users share: values on one line, and the nearest known name to a wrong one."""

from __future__ import annotations

import difflib
import enum
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


def show(value: Any) -> str:
    """A value as a message shows it: short, on one line, in YAML's words (``null``, ``true``)."""
    if isinstance(value, enum.Enum):
        value = value.value
    text = (
        repr(str(value))
        if isinstance(value, str | Path)
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    return shorten(text)


def shorten(text: str, n_characters: int = 100) -> str:
    """The text on one line, or its beginning and an ellipsis; a password in a URL is not shown."""
    text = _PASSWORD.sub(r"\1***@", " ".join(text.split("\n")))
    return text if len(text) <= n_characters else text[: n_characters - 3] + "..."


def count(n: int, noun: str) -> str:
    """How many of something: ``1 run``, ``7,800 runs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def suggest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, or nothing."""
    nearest = nearest_name(name, known)
    return f"; did you mean '{nearest}'?" if nearest else ""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like ``name``, if one does."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return nearest[0] if nearest else None


def suggest_folder(folder: Path) -> str:
    """`suggest` for the folder of a run that is not there: one beside it, or in ``runs``."""
    for parent in (folder.parent, Path("runs")):
        beside = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
        nearest = nearest_name(folder.name, beside)
        if nearest is not None and parent / nearest != folder:
            return f"; did you mean '{parent / nearest}'?"
    return ""


def expect_run(folder: Path) -> str:
    """The end of a message about a run that is not there: the nearest folder, or which there are."""
    there = ", ".join(runs_there()) or "runs/debug"
    return suggest_folder(folder) or f"; expected the folder of a run, such as {there}."


def runs_there(n_most: int = 3) -> list[str]:
    """The first few folders of runs in ``runs``."""
    return sorted(str(path.parent) for path in Path("runs").glob("*/config.yaml"))[:n_most]


def nanollama_command(*arguments: str) -> str:
    """``nanollama`` with arguments, to be typed here: by its path where the shell does not find its name."""
    script = Path(sys.executable).parent / "nanollama"
    if shutil.which("nanollama") is None and script.is_file():
        here = Path.cwd()
        return shlex.join(
            [str(script.relative_to(here) if script.is_relative_to(here) else script), *arguments]
        )
    return shlex.join(["nanollama", *arguments])


def printable(text: str) -> str:
    """A text without the characters that steer a terminal or the direction of writing; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def first_sentence(error: Exception) -> str:
    """The first sentence of a message, or its first two lines."""
    said = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
    return re.split(r"(?<=\.) (?=[A-Z])", said, maxsplit=1)[0]
