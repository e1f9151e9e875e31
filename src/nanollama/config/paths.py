"""Paths in configs, which may name variables of the environment and the home folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from nanollama.wording import show

_VARIABLE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


def expand_path(text: str) -> str:
    """Replace ``~``, ``$VAR`` and ``${VAR}``; ``$$`` is a plain dollar.

    Raises:
        ValueError: the path is empty, or a variable or home folder is not defined.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name is None:
            return "$"
        if name not in os.environ:
            raise ValueError(f"the environment variable '{name}' in '{text}' is not defined")
        return os.environ[name]

    if not text or "\0" in text:
        raise ValueError(f"expected a path, got {show(text)}")
    if "$" not in text and not text.startswith("~"):
        return text  # most are, and a grid has thousands
    home, slash, rest = text.partition("/")
    if home.startswith("~"):
        home = os.path.expanduser(home)
        if home.startswith("~"):
            raise ValueError(f"the home folder '{home}' in '{text}' does not exist")
    else:
        home = _VARIABLE.sub(value_of, home)
    return home + slash + _VARIABLE.sub(value_of, rest)


def _expand(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a path, got {show(value)}")
    return Path(expand_path(value))


def _escape(path: Path) -> str:
    text = str(path).replace("$", "$$")
    return f"./{text}" if text.startswith("~") else text


ConfigPath = Annotated[
    Path,
    PlainValidator(_expand),
    PlainSerializer(_escape, when_used="json"),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""A path: ``~``, ``$VAR`` and ``${VAR}`` are expanded in texts, ``$$`` is a plain dollar."""
