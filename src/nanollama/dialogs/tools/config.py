"""Configs of the tools: which database, what may be asked of it, and how much an answer may cost."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from nanollama.config import Config, ConfigPath

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=63)]

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")
_URL_PASSWORD = re.compile(r"://[^:/]*:([^@]*)@")  # greedy as SQLAlchemy's own: a password may hold / and ?
_QUERY_PASSWORD = re.compile(r"[?&]\w*(password|passwd|passphrase|pwd)=", re.IGNORECASE)


def _refuse_password(url: str) -> str:
    match = _URL_PASSWORD.search(url)
    if _QUERY_PASSWORD.search(url) or (match and match[1] and password_variable(match[1]) is None):
        raise ValueError(
            "the URL holds a password; write the name of an environment variable that holds it, as in "
            "postgresql+psycopg://user:$PASSWORD_VARIABLE@host/name"
        )
    return url


DatabaseUrl = Annotated[str, AfterValidator(_refuse_password)]
"""An SQLAlchemy URL without a password: configs are printed and are written into run folders."""


class Limits(Config):
    """What one request may cost. Beyond a limit the reply is a short error."""

    max_request_chars: int = Field(default=1000, ge=1, le=10_000, description="Longest message of the model.")
    max_reply_bytes: int = Field(
        default=256, ge=32, le=100_000, description="Longest reply, in bytes of UTF-8."
    )
    max_rows: int = Field(default=10, ge=1, le=1000, description="Most rows of the reply to one SELECT.")
    max_steps: int = Field(
        default=100_000,
        ge=1000,
        le=10_000_000,
        description="Most steps of SQLite's virtual machine for one SELECT; a look-up takes about 20.",
    )
    max_seconds: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="Longest time of a query: of the processor with SQLite, on the clock with a server.",
    )


class DatabaseConfig(Config):
    """A database that a model may ask for attributes of the rows of one table.

    Exactly one of ``path`` and ``url`` names the database.
    """

    path: ConfigPath | None = Field(default=None, description="SQLite file; opened read-only.")
    url: DatabaseUrl | None = Field(
        default=None,
        description="SQLAlchemy URL of another database: postgresql+psycopg://user:$PASSWORD_VARIABLE@host/name.",
    )
    language: Literal["find", "sql"] = Field(
        default="find",
        description="What requests are written in: 'FIND attribute FOR name', or one SELECT (SQLite only).",
    )
    table: Identifier = Field(description="The only table that can be read.")
    key: Identifier = Field(default="name", description="The column, of texts, by which rows are found.")
    attributes: tuple[Identifier, ...] = Field(min_length=1, description="The columns that may be asked for.")
    limits: Limits = Field(default=Limits(), description="What one request may cost.")

    @model_validator(mode="after")
    def _check(self) -> DatabaseConfig:
        if (self.path is None) == (self.url is None):
            raise ValueError("expected either 'path' (an SQLite file) or 'url' (any other database)")
        if self.key in self.attributes or len(set(self.attributes)) < len(self.attributes):
            raise ValueError(
                f"expected different names as key and attributes, got {[self.key, *self.attributes]}"
            )
        if self.url is not None and self.language == "sql":
            raise ValueError("language 'sql' is for an SQLite file only; with 'url' use 'find'")
        return self


def password_variable(password: str) -> str | None:
    """The name in ``$NAME`` or ``${NAME}``, or None."""
    match = _VARIABLE.fullmatch(password)
    return match and (match[1] or match[2])


Operator = Literal["+", "-", "*"]


class CalculatorConfig(Config):
    """A calculator of whole numbers that a model may ask."""

    operators: tuple[Operator, ...] = Field(
        default=("+", "-", "*"), min_length=1, description="What it can do with two numbers."
    )
    max_digits: int = Field(default=32, ge=1, le=1000, description="Digits of a number in a request.")
    max_depth: int = Field(default=8, ge=0, le=50, description="Brackets within brackets in a request.")
    limits: Limits = Field(
        default=Limits(), description="What one request may cost; rows, steps and seconds do not matter."
    )
