"""Pydantic's errors as one line each: where it was written, the dotted key, what was expected, what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from nanollama.config_keys import (
    choices,
    describe_keys,
    describe_type,
    implementation_of,
    locate,
    section_class,
    section_classes,
)
from nanollama.config_source import DISCRIMINATOR, Keys, Node
from nanollama.wording import nearest_name, show, suggest


def explain(error: ValidationError, config_class: type[BaseModel], source: Node) -> str:
    """All problems of a config, one line each, in the order in which they were written."""
    details = [_Detail(item, config_class, source) for item in error.errors(include_url=False)]
    meant = {detail.meant for detail in details}
    details.sort(key=lambda detail: (bool(detail.place.argument), detail.place.file, detail.place.line))
    lines = [
        f"{detail.prefix()}: {detail.text()}"
        for detail in details
        if not (detail.kind == "missing" and detail.keys in meant)  # the line about the misspelt key says it
    ]
    return "\n".join(dict.fromkeys(lines))


class _Detail:
    """One of pydantic's errors, in the user's terms."""

    def __init__(self, item: Mapping[str, Any], config_class: type[BaseModel], source: Node) -> None:
        self.kind: str = item["type"]
        self._context: dict[str, Any] = item.get("ctx", {})
        self._input = item["input"]
        self._config_class = config_class
        self.keys, self._annotation, self._metadata = locate(config_class, item["loc"])
        if self.kind in ("union_tag_invalid", "union_tag_not_found"):
            self.keys = (*self.keys, DISCRIMINATOR)
        self.place = source.place_of(self.keys)
        self.meant: Keys | None = None
        if self.kind == "extra_forbidden":
            nearest = nearest_name(str(self.keys[-1]), self._known())
            self.meant = (*self.keys[:-1], nearest) if nearest else None

    def prefix(self) -> str:
        """Place and dotted key, the key only once."""
        key = ".".join(map(str, self.keys))
        return str(self.place) if not key or self.place.names(key) else f"{self.place}: {key}"

    def text(self) -> str:
        """What is wrong and what was expected."""
        if self.kind == "missing":
            return f"required key is missing; expected {describe_type(self._annotation, self._metadata)}."
        if self.kind == "extra_forbidden":
            return self._unknown_key()
        if self.kind in ("value_error", "assertion_error"):
            return f"{str(self._context['error']).rstrip('.')}."
        if self.kind == "union_tag_not_found":
            return f"required key is missing; expected {self._implementations()}."
        if self.kind == "union_tag_invalid":
            tag = self._context["tag"]
            return f"expected {self._implementations()}, got {show(tag)}{suggest(tag, self._names()) or '.'}"
        expected = describe_type(self._annotation, self._metadata)
        hint = suggest(self._input, choices(self._annotation)) if isinstance(self._input, str) else ""
        return f"expected {expected}, got {show(self._input)}{hint or '.'}"

    def _known(self) -> list[str]:
        section = section_class(self._annotation)
        return list(section.model_fields) if section else []

    def _names(self) -> list[str]:
        return [implementation_of(section) for section in section_classes(self._annotation)]

    def _implementations(self) -> str:
        return f"one of {', '.join(map(repr, self._names()))}"

    def _unknown_key(self) -> str:
        """The line about a key nobody reads: the nearest name here, else the same name elsewhere."""
        everywhere = [info.key for info in describe_keys(self._config_class)]
        elsewhere = [key for key in everywhere if key.split(".")[-1] == self.keys[-1]]
        meant = str(self.meant[-1]) if self.meant else elsewhere[0] if elsewhere else ""
        hint = f"; did you mean '{meant}'?" if meant else ""
        return f"unknown key{hint} (known: {', '.join(self._known())})"
