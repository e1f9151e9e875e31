"""The texts of the study, read from `templates.yaml`, which users may edit, and checked before use."""

from __future__ import annotations

import string
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from apps.memory.dataset.people import ATTRIBUTES
from nanollama.config import Config, load_config

TEMPLATES_PATH = Path(__file__).parent / "templates.yaml"

_FENCE = "```"


class AnswerTexts(Config):
    """How a fact is asked for and told."""

    question: str = Field(description="What the user asks; holds {name}.")
    answer: str = Field(description="What the assistant answers; ends with the fact's placeholder and '.'.")

    @field_validator("question")
    @classmethod
    def _question_names_the_person(cls, text: str) -> str:
        return _check(text, required={"name"}, allowed={"name"})


class ToolTexts(AnswerTexts):
    """How a fact is asked for, looked up and told."""

    request: str = Field(description="What the assistant says before its request to the database.")

    @field_validator("request")
    @classmethod
    def _request_holds_no_block(cls, text: str) -> str:
        if _FENCE in text:
            raise ValueError(f"must not hold {_FENCE}, which would look like the request itself")
        return _check(text, required=(), allowed={"name"})


TextsT = TypeVar("TextsT", bound=AnswerTexts)


class Facts(Config, Generic[TextsT]):
    """Texts for each attribute of a person."""

    birth_date: TextsT = Field(description="Texts about the birth date.")
    birth_place: TextsT = Field(description="Texts about the country of birth.")
    current_address: TextsT = Field(description="Texts about the city the person lives in.")
    occupation: TextsT = Field(description="Texts about the person's work.")

    @field_validator(*ATTRIBUTES)
    @classmethod
    def _answer_ends_with_the_fact(cls, texts: TextsT, info: ValidationInfo) -> TextsT:
        attribute = str(info.field_name)
        try:
            _check(texts.answer, required={attribute}, allowed={"name", attribute})
        except ValueError as error:
            raise ValueError(f"the answer {error}") from None
        if not texts.answer.endswith(f"{{{attribute}}}."):
            raise ValueError(f"the answer must end with '{{{attribute}}}.', got '{texts.answer}'")
        return texts


class Templates(Config):
    """All texts of the study; see `templates.yaml` for what each is for."""

    biography: str = Field(description="A text with {name} and all four facts of a person.")
    qa: Facts[AnswerTexts] = Field(description="In-weight arm: the assistant answers by heart.")
    qatool: Facts[ToolTexts] = Field(description="In-tool arm: the assistant asks the database first.")

    @field_validator("biography")
    @classmethod
    def _biography_tells_everything(cls, text: str) -> str:
        placeholders = {"name", *ATTRIBUTES}
        return _check(text, required=placeholders, allowed=placeholders)


def load_templates(path: Path) -> Templates:
    """Templates of a YAML file.

    Raises:
        ConfigError: one line a problem, with file, line and key.
    """
    return load_config(Templates, [f"config={path}"])


@lru_cache
def default_templates() -> Templates:
    """The templates beside this module, read once."""
    return load_templates(TEMPLATES_PATH)


def _check(text: str, required: Collection[str], allowed: Collection[str]) -> str:
    """The text, if its placeholders are the right ones and it can be printed."""
    names = _placeholders(text)
    if unknown := [name for name in names if name not in allowed]:
        known = ", ".join(f"{{{name}}}" for name in sorted(allowed))
        raise ValueError(f"must not hold {{{unknown[0]}}}, expected no placeholder but {known}")
    if missing := sorted(set(required) - set(names)):
        raise ValueError(f"must hold {', '.join(f'{{{name}}}' for name in missing)}, got '{text}'")
    if not text.replace("\n", "").isprintable():
        raise ValueError("must hold printable characters and line breaks only")
    return text


def _placeholders(text: str) -> list[str]:
    """Names in braces; `{name!r}`, `{name:>9}` and the like are returned whole, so they match no name."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"has a stray brace ({error}); double a brace that stands for itself") from None
    return [
        name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        for _, name, spec, conversion in parts
        if name is not None
    ]
