"""What the configs of the memory study may say about what is learned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from apps.memory.dataset.dialogs import Language
from apps.memory.dataset.people import N_PEOPLE
from nanollama.config import Config
from nanollama.data.batching import Batching
from nanollama.dialogs.tools import CalculatorConfig
from nanollama.dialogs.tools.config import Operator

SourceKind = Literal["qa", "qatool", "biographies", "sums", "sumstool", "text"]
ROLES = ("user", "assistant", "database")
"""Who speaks in dialogs: `database` is whichever tool was called, so all models have the same tokens."""
DIALOG_TOKENS = {role: f"<|{role}|>" for role in ROLES}
"""What opens the turn of each, where these are added to the tokenizer of a pretrained model."""
MAX_OPERAND_DIGITS = 18  # operands are drawn as int64


class SourceConfig(Config):
    """One kind of text to learn from."""

    kind: SourceKind = Field(
        description="`qa` answers by heart, `qatool` asks the database, `biographies` tells all four facts; "
        "`sums` are reckoned in the head, `sumstool` by asking the calculator; `text`: the section text."
    )
    weight: float = Field(default=1.0, gt=0, description="Share of the rows of a batch, on any scale.")


class SumsConfig(Config):
    """Whole-number arithmetic to learn from; see `apps.memory.sums`."""

    n_sums: int = Field(default=10_000, ge=1, le=1_000_000, description="Sums to learn from.")
    operators: tuple[Operator, ...] = Field(
        default=("+", "-", "*"), min_length=1, description="Operators, each equally often."
    )
    n_digits: int = Field(default=3, ge=2, le=12, description="Most digits of an operand.")
    n_longer_digits: int = Field(
        default=2, ge=1, le=12, description="How many digits more the operands of `sums_longer` have."
    )
    depth: int = Field(
        default=1, ge=1, le=8, description="Most operators of a sum, each applied to the rest."
    )
    seed: int = Field(default=0, ge=0, description="Of the sums, and of which operands are kept unseen.")

    @model_validator(mode="after")
    def _check(self) -> SumsConfig:
        if self.n_digits + self.n_longer_digits > MAX_OPERAND_DIGITS:
            raise ValueError(
                f"n_digits = {self.n_digits} and n_longer_digits = {self.n_longer_digits} make operands of "
                f"more than {MAX_OPERAND_DIGITS} digits: lower one of them"
            )
        return self

    @property
    def calculator(self) -> CalculatorConfig:
        """The calculator that does these sums."""
        return CalculatorConfig(operators=self.operators)


class DependenceConfig(Config):
    """Facts that depend on the last name; see `apps.memory.dataset.dependent`."""

    alpha: float = Field(
        ge=0,
        le=1,
        description="Chance of a fact to be free: 0, it follows from the last name; 1, it is uniform.",
    )
    seed: int = Field(default=0, ge=0, description="Of names and facts.")


class DataConfig(Config):
    """What is learned, about how many people."""

    n_people: int = Field(ge=1, le=N_PEOPLE, description="People to learn about: the first so many.")
    sources: tuple[SourceConfig, ...] = Field(min_length=1, description="Kinds of text, with their weights.")
    language: Language = Field(default="find", description="Language of requests: `find` or a real SELECT.")
    format: Literal["dialog", "chat"] = Field(
        default="dialog",
        description="Of dialogs for a model with path: `dialog` opens each turn by a token of its own, "
        "`chat` is the chat template of the model's tokenizer.",
    )
    batching: Batching = Field(
        default="trimmed",
        description="`trimmed` pads to the longest of a batch, `bucketed` groups like lengths, `packed` puts "
        "several dialogs into a row; with engine = trainer, each has a row of its own.",
    )
    row_len: int | None = Field(
        default=None, ge=1, description="Tokens a row when packed; default: the longest dialog."
    )

    sums: SumsConfig = Field(default=SumsConfig(), description="What `sums` and `sumstool` are made of.")
    dependence: DependenceConfig | None = Field(
        default=None,
        description="Learn facts that depend on the last name; null: independent facts.",
    )

    @property
    def uses_tool(self) -> bool:
        """Does any source show how to ask the database?"""
        return self.has("qatool")

    @property
    def tells_of_people(self) -> bool:
        """Is any source about people?"""
        return self.has("qa", "qatool", "biographies")

    def has(self, *kinds: SourceKind) -> bool:
        """Is there a source of one of these kinds?"""
        return any(source.kind in kinds for source in self.sources)
