"""A small text, and a section about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanollama.data.text.config import TextConfig, WordPieceConfig

DOCUMENTS = [
    f"the number {n} is {'even' if n % 2 == 0 else 'odd'} and comes after {n - 1}" for n in range(300)
]


def config(folder: Path, **keys: Any) -> TextConfig:
    """Of the documents, kept in the folder; ``keys`` replace others."""
    path = folder / "text.txt"
    if not path.exists():
        path.write_text("\n".join(DOCUMENTS) + "\n\n")
    defaults = {
        "files": (path,),
        "tokenizer": WordPieceConfig(implementation="wordpiece", vocab_size=120),
        "held_out": 0.1,
        "seq_len": 16,
        "cache": folder / "c",
    }
    return TextConfig(**{**defaults, **keys})
