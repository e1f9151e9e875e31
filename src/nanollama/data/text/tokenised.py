"""Text as token ids: made once, kept under a hash of what it was made from, read as memory maps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nanollama.data.text.config import TextConfig
from nanollama.data.text.corpus import ensure_corpus
from nanollama.data.text.documents import SPLITS, Split, content_hash, read_documents, split_of
from nanollama.data.text.tokens import (
    build_tokenizer,
    end_id,
    load_tokenizer,
    special_ids,
    tokenizer_hash,
)
from nanollama.errors import UserError
from nanollama.pretrained_tokenizer import n_token_ids

VERSION = 4
"""Of the format, of how text becomes tokens, and of what is held out."""
TOKENIZER, FACTS = "tokenizer.json", "facts.json"
N_AT_ONCE = 1000  # documents


@dataclass(frozen=True)
class TokenisedText:
    """Token ids of all documents, each followed by the token that ends it.

    Args:
        folder: where they are kept.
        hashes: SHA-256 of the ids of each split.
        seq_len: tokens of an example.
    """

    folder: Path
    hashes: Mapping[str, str]
    seq_len: int

    @cached_property
    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`."""
        return load_tokenizer(self.folder / TOKENIZER)

    @cached_property
    def vocab_size(self) -> int:
        """Number of token ids, gaps among them too."""
        return n_token_ids(self.tokenizer)

    @cached_property
    def special(self) -> np.ndarray:
        """Ids that no text becomes, in order."""
        return np.array(special_ids(self.tokenizer), dtype=np.int64)

    def rows(self, split: Split) -> np.ndarray:
        """Examples (n, seq_len): stretches of the documents of a split, one after another.

        Raises:
            UserError: there is not one.
        """
        ids = np.load(self.folder / f"{split}.npy", mmap_mode="r")
        n_rows = len(ids) // self.seq_len
        if n_rows == 0:
            raise UserError(
                f"The text has {len(ids)} tokens for {split}, less than one example of {self.seq_len}: "
                "expected more documents, a larger held_out, or a smaller seq_len."
            )
        return ids[: n_rows * self.seq_len].reshape(n_rows, self.seq_len)

    def documents(self, split: Split) -> np.ndarray:
        """The document (n,) of each example of `rows`, counted from 0: that of its first token."""
        is_end = self.rows(split) == end_id(self.tokenizer)
        n_ended = np.cumsum(is_end.sum(axis=1))
        return np.concatenate([[0], n_ended[:-1]])


def tokenise_for(config: TextConfig, vocab_size: int) -> TokenisedText:
    """The tokens of a text for a model of so many; the corpus is made where it is named and missing.

    Raises:
        UserError: the text cannot be had, or has more kinds of tokens than the model.
    """
    ensure_corpus(config)
    text = tokenise(config)
    if text.vocab_size > vocab_size:
        raise UserError(
            f"model.vocab_size = {vocab_size} is too small: the tokenizer has {text.vocab_size} "
            "tokens; set it to that."
        )
    return text


def tokenise(config: TextConfig) -> TokenisedText:
    """The tokens of a text, made if they are not there yet.

    Raises:
        UserError: the text or the tokenizer cannot be read, there is nothing to learn from, or the tokens
            cannot be kept.
        MissingExtraError: a package is not installed.
    """
    made_from = {
        "version": VERSION,
        "content": content_hash(config),
        "tokenizer_content": tokenizer_hash(config.tokenizer),
        **config.model_dump(mode="json", include={"column", "tokenizer", "held_out"}),
    }
    key = _hash(json.dumps(made_from, sort_keys=True).encode())[:16]
    folder = config.cache / key
    if not _is_intact(folder):
        new = config.cache / f".{key}.{os.urandom(4).hex()}"
        try:
            new.mkdir(parents=True)
            _make(config, new, made_from)
            if not _is_intact(folder):  # who was first may be reading by now
                shutil.rmtree(folder, ignore_errors=True)
                new.rename(folder)
        except OSError as error:
            if not _is_intact(folder):  # unless another process was first
                raise UserError(
                    f"Tokens cannot be kept in text.cache = {config.cache}: {error.strerror or error}; "
                    "expected a folder that can be written to."
                ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return TokenisedText(folder, facts["hashes"], config.seq_len)


def _make(config: TextConfig, folder: Path, made_from: Mapping[str, Any]) -> None:
    """Write tokenizer, ids and facts; what is held out is no part of a new tokenizer either."""

    def learned() -> Iterator[str]:
        return (text for text in read_documents(config) if split_of(text, config.held_out) == "train")

    if next(learned(), None) is None:
        named = config.dataset or ", ".join(map(str, config.files))
        raise UserError(f"There is nothing to learn from in {named}: expected documents that are not blank.")
    tokenizer = build_tokenizer(config.tokenizer, learned())
    tokenizer.encode_special_tokens = True  # "[MASK]" in a document is text like any other
    dtype = np.dtype(np.uint16 if n_token_ids(tokenizer) <= 1 << 16 else np.uint32)
    end = end_id(tokenizer)
    parts: dict[Split, list[np.ndarray]] = {split: [np.zeros(0, dtype)] for split in SPLITS}
    documents = read_documents(config)
    while texts := list(islice(documents, N_AT_ONCE)):
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for text, found in zip(texts, encoded, strict=True):
            if found.ids:
                parts[split_of(text, config.held_out)].append(np.array([*found.ids, end], dtype=dtype))
    special = special_ids(tokenizer)
    if not any(len(np.setdiff1d(part, special)) for part in parts["train"]):
        raise UserError(
            "The text becomes nothing but special tokens, such as [UNK]: expected a tokenizer that knows its "
            "letters."
        )
    hashes = {}
    for split, arrays in parts.items():
        ids = np.concatenate(arrays)
        np.save(folder / f"{split}.npy", ids)
        hashes[split] = _hash(ids.tobytes())
    tokenizer.save(str(folder / TOKENIZER))
    facts = {
        "made_from": made_from,
        "hashes": hashes,
        TOKENIZER: _hash((folder / TOKENIZER).read_bytes()),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")


def _is_intact(folder: Path) -> bool:
    """Does a folder hold what its facts say?"""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        found = {split: _hash(np.load(folder / f"{split}.npy").tobytes()) for split in SPLITS}
        tokenizer = _hash((folder / TOKENIZER).read_bytes())
        return bool(facts["hashes"] == found and facts[TOKENIZER] == tokenizer)
    except (OSError, ValueError, LookupError, TypeError, EOFError):  # of facts that are no such object, too
        return False


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
