"""What a section about text may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nanollama.config import Config, ConfigPath
from nanollama.errors import UserError
from nanollama.wording import show

SUFFIXES = (".txt", ".jsonl", ".parquet")


class WordPieceConfig(Config):
    """A WordPiece vocabulary (arXiv 1609.08144) of lower-case English, made from what is learned from."""

    implementation: Literal["wordpiece"] = Field(description="Which tokenizer this is.")
    vocab_size: int = Field(default=4096, ge=64, description="Number of token ids, at most.")


class BytePairConfig(Config):
    """A vocabulary of pairs of bytes (arXiv 1508.07909), as that of GPT-2, made from what is learned from.

    It keeps every letter, so texts come back as they were.
    """

    implementation: Literal["byte_pairs"] = Field(description="Which tokenizer this is.")
    vocab_size: int = Field(default=4096, ge=257, description="Number of token ids, at most.")


class PretrainedTokenizerConfig(Config):
    """A tokenizer that exists."""

    implementation: Literal["hugging_face"] = Field(description="Which tokenizer this is.")
    path: str = Field(description="A tokenizer.json, a folder that holds one, or a name on the hub.")


TokenizerConfig = Annotated[
    WordPieceConfig | BytePairConfig | PretrainedTokenizerConfig, Field(discriminator="implementation")
]


class TextConfig(Config):
    """Text, how it is cut into tokens, and what of it is held out."""

    files: tuple[ConfigPath, ...] = Field(
        default=(),
        description="Files of documents: a line of a .txt, a row of a .jsonl or a .parquet is a document.",
    )
    dataset: str | None = Field(
        default=None,
        description="Instead of files: name of a data set on the hub, such as Salesforce/wikitext.",
    )
    subset: str | None = Field(
        default=None, description="Of the data set, where it has several, such as wikitext-103-raw-v1."
    )
    column: str = Field(default="text", description="Where rows have the text.")
    tokenizer: TokenizerConfig = Field(
        default=WordPieceConfig(implementation="wordpiece"), description="What cuts text into tokens."
    )
    held_out: float = Field(
        default=0.02,
        gt=0,
        lt=0.5,
        description="Share of documents kept for validation, and as many again for the test.",
    )
    seq_len: int = Field(default=128, ge=8, description="Tokens of an example.")
    cache: ConfigPath = Field(
        default=Path("data/text/cache"), description="Folder of what is tokenised, by a hash of its content."
    )

    @model_validator(mode="after")
    def _check(self) -> TextConfig:
        if bool(self.files) == (self.dataset is not None):
            raise ValueError("expected either files or dataset: what is to be read")
        if self.subset is not None and self.dataset is None:
            raise ValueError("subset is one of a dataset: leave it out with files")
        for path in self.files:
            if path.suffix not in SUFFIXES:
                raise ValueError(f"files: {path} ends in {path.suffix!r}, expected {', '.join(SUFFIXES)}")
        return self

    @property
    def documents(self) -> str:
        """What a document is, in words."""
        suffixes = {path.suffix for path in self.files}
        lines = ["lines"] if ".txt" in suffixes else []
        rows = [] if suffixes == {".txt"} else [f"rows' {show(self.column)}"]
        return " and ".join(lines + rows)

    def check_unlearned(self, run: Path, there: TextConfig) -> None:
        """Refuse to start from a run that has learned documents which would be held out now.

        A document's place is told by its text and the share held out alone, whatever files it is in: of one
        corpus, lines have other places than the rows they are part of.

        Args:
            run: whose weights are started from.
            there: what it has learned.

        Raises:
            UserError: it has held out less, or documents of another kind.
        """
        if there.held_out < self.held_out:
            raise UserError(
                f"The run {run} has learned from what would be held out now: text.held_out is "
                f"{there.held_out} there and {self.held_out} here; give both the same."
            )
        if there.documents != self.documents:
            raise UserError(
                f"The run {run} may have learned from what would be held out now: documents are "
                f"{there.documents} there and {self.documents} here, held out each by itself; give both "
                "files of one kind, and the same text.column."
            )
