"""Pydantic's errors as one line each: where it was written, the dotted key, what was expected, what came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from nanollama.config.keys import (
    choices,
    describe_keys,
    describe_type,
    implementation_of,
    keys_of,
    locate,
    section_class,
    section_classes,
)
from nanollama.config.source import DISCRIMINATOR, Node, Place
from nanollama.wording import nearest_name, show, suggest

STUDY = "study"
GRID = "grid"
"""The section that makes a config one of many runs, which commands that take one run do not know."""


def explain(error: ValidationError, config_class: type[BaseModel], source: Node) -> str:
    """All problems of a config, one line each, in the order in which they were written."""
    details = [_Detail(item, config_class, source) for item in error.errors(include_url=False)]
    for detail in details:
        if (
            detail.key == GRID and detail.kind == "extra_forbidden"
        ):  # the rest of it is not of one run, either
            return (
                f"{detail.place}: {GRID}: this config describes many runs, and here one is expected; "
                f"`nanollama grid run {source.place.file or 'CONFIG'}` runs them all."
            )
        if (
            detail.key == STUDY
            and detail.kind == "literal_error"
            and not suggest(str(detail.input), choices(detail.annotation))
        ):
            return (
                f"{detail.place.of(STUDY)}: {detail.text()[:-1]}: it is a config of another study; "
                "`nanollama train|eval|grid run CONFIG` finds the study of a config."
            )
    meant = {detail.meant for detail in details}
    around = {detail.keys[:n_keys] for detail in details for n_keys in range(len(detail.keys))}
    details.sort(key=lambda detail: (bool(detail.place.argument), detail.place.file, detail.place.line))
    lines = [
        f"{detail.place.of(detail.key)}: {detail.text()}"
        for detail in details
        # The line about the misspelt key says it; a list with wrong entries only seems too short.
        if not (detail.kind == "missing" and detail.key in meant)
        and not (detail.kind == "too_short" and detail.keys in around)
    ]
    return "\n".join(dict.fromkeys(lines))


def _argument_named(node: Node, section: str, said: str) -> Place | None:
    """The argument that has set a key of a section which a message about the section names, if one has."""
    key = node.place.argument.partition("=")[0]
    within, _, name = key.rpartition(".")
    is_within = f"{within}.".startswith(f"{section}." if section else "")
    if key and is_within and re.search(rf"\b{re.escape(name)}\b", said):
        return node.place
    children = node.value.values() if isinstance(node.value, dict) else ()
    return next((place for child in children if (place := _argument_named(child, section, said))), None)


def _initials(name: str) -> str:
    """``lr`` for ``learning_rate``; nothing for a single word."""
    words = name.split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


class _Detail:
    """One of pydantic's errors, in the user's terms."""

    def __init__(self, item: Mapping[str, Any], config_class: type[BaseModel], source: Node) -> None:
        self.kind: str = item["type"]
        self._context: dict[str, Any] = item.get("ctx", {})
        self.input = item["input"]
        self._config_class = config_class
        is_unknown = self.kind == "extra_forbidden"  # known, if at all, to another implementation
        loc = item["loc"][:-1] if is_unknown else item["loc"]
        self.keys, self.annotation, self._metadata = locate(config_class, loc)
        if is_unknown:
            self.keys = (*self.keys, item["loc"][-1])
        if self.kind in ("union_tag_invalid", "union_tag_not_found"):
            self.keys = (*self.keys, DISCRIMINATOR)
        self.key = ".".join(map(str, self.keys))
        self.place = source.place_of(self.keys)
        if self.kind == "value_error":
            self._blame_argument(source)
        self.meant = self._find_meant() if self.kind == "extra_forbidden" else None

    def _blame_argument(self, source: Node) -> None:
        """Where an argument has set a key that is named, no line of a file is to be mended."""
        place = _argument_named(source, self.key, self.text())
        if place is not None:
            self.place, self.key = place, place.argument.partition("=")[0]

    def text(self) -> str:
        """What is wrong and what was expected."""
        if self.kind == "missing":
            what = "entry" if isinstance(self.keys[-1], int) else "required key"
            return f"{what} is missing; expected {describe_type(self.annotation, self._metadata)}."
        if self.kind == "extra_forbidden":
            return self._unknown_key()
        if self.kind in ("value_error", "assertion_error"):
            said = str(self._context["error"]).rstrip(".")
            return said if said.endswith("?") else f"{said}."
        if self.kind == "union_tag_not_found":
            return f"required key is missing; expected {self._implementations()}."
        if self.kind == "union_tag_invalid":
            hint = suggest(self._context["tag"], self._names()) or "."
            return f"expected {self._implementations()}, got {show(self.input[DISCRIMINATOR])}{hint}"
        expected = describe_type(self.annotation, self._metadata)
        hint = suggest(self.input, choices(self.annotation)) if isinstance(self.input, str) else ""
        return f"expected {expected}, got {show(self.input)}{hint or '.'}"

    def _known(self) -> list[str]:
        section = section_class(self.annotation)
        return list(keys_of(section)) if section else []

    def _names(self) -> list[str]:
        return [implementation_of(section) for section in section_classes(self.annotation)]

    def _implementations(self) -> str:
        return f"one of {', '.join(map(repr, self._names()))}"

    def _find_meant(self) -> str | None:
        """The key that was probably meant: the outermost of this name, else the nearest in this section."""
        *section, name = map(str, self.keys)
        everywhere, nearest = list(self._everywhere()), nearest_name(name, self._known())
        named = [key for key in everywhere if key.split(".")[-1] == name]
        if nearest and not named:
            return ".".join([*section, nearest])
        short = [key for key in everywhere if _initials(key.split(".")[-1]) == name]
        return min(named or short, key=lambda key: key.count("."), default=None)

    def _unknown_key(self) -> str:
        hint = ""
        owners = self._everywhere().get(self._pattern())
        if owners:
            hint = f"; it belongs to implementation {' or '.join(map(repr, owners))}"
        elif self.meant:
            section, _, name = self.meant.rpartition(".")
            hint = f"; did you mean '{name if section == self.key.rpartition('.')[0] else self.meant}'?"
        return f"unknown key{hint} (known: {', '.join(self._known())})"

    def _everywhere(self) -> dict[str, list[str]]:
        """All keys of the config and the implementations that have them."""
        owners: dict[str, list[str]] = {}
        for info in describe_keys(self._config_class):
            owners.setdefault(info.key, []).append(info.variant)
        return owners

    def _pattern(self) -> str:
        return ".".join("*" if isinstance(key, int) else key for key in self.keys)
