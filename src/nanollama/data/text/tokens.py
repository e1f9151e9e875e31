"""Tokenizers of text, by the package tokenizers."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nanollama.data.text.config import (
    BytePairConfig,
    PretrainedTokenizerConfig,
    TokenizerConfig,
    WordPieceConfig,
)
from nanollama.errors import MissingExtraError, UserError
from nanollama.pretrained_tokenizer import n_token_ids
from nanollama.wording import show

PADDING, UNKNOWN, CLASS, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
END_OF_TEXT = "<|endoftext|>"
END_NAMES = (END, "</s>", END_OF_TEXT, "<|end_of_text|>", "<eos>", "<end>")
MASK_NAMES = (MASK, "<mask>")
N_LETTERS = 200
"""Of the most frequent ones, at the start of words and inside them; words with others are unknown."""
N_WORD = 100
"""Letters of a word, at most; longer ones are unknown, as to BERT: to cut them up takes their square."""
WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
MOVED_UP = 0xF0000
"""To code points that no text has; BERT's normalizer drops letters of private use."""


def build_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Any:
    """A `tokenizers.Tokenizer`: one that exists, or a new one made from texts.

    Raises:
        UserError: there is none of this name.
        MissingExtraError: the package is not installed.
    """
    if isinstance(config, WordPieceConfig):
        return _word_pieces(config, texts)
    if isinstance(config, BytePairConfig):
        return _byte_pairs(config, texts)
    assert isinstance(config, PretrainedTokenizerConfig)
    return _existing(config.path)


def tokenizer_hash(config: TokenizerConfig) -> str | None:
    """SHA-256 of a tokenizer's file; None of one that has none here: it is to be made, or comes from a hub.

    Raises:
        UserError: the file cannot be read.
    """
    if not isinstance(config, PretrainedTokenizerConfig) or not (path := _file_of(config.path)).is_file():
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"The tokenizer {path} cannot be read: {error.strerror or error}.") from error


def end_id(tokenizer: Any) -> int:
    """The token that ends a document.

    Raises:
        UserError: the tokenizer has none of the usual names.
    """
    return _first_of(tokenizer, END_NAMES, "ends a document")


def mask_id(tokenizer: Any) -> int:
    """The token that stands where another is asked for.

    Raises:
        UserError: the tokenizer has none of the usual names.
    """
    return _first_of(tokenizer, MASK_NAMES, "masks another")


def special_ids(tokenizer: Any) -> list[int]:
    """Tokens that no text becomes, in order."""
    return sorted(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)


def token_bytes(tokenizer: Any) -> np.ndarray | None:
    """(V,) bytes of text in each token, 0 in special ones; None where tokens are not of bytes."""
    if (json.loads(tokenizer.to_str())["decoder"] or {}).get("type") != "ByteLevel":
        return None
    lengths = np.zeros(n_token_ids(tokenizer), dtype=np.int64)
    for token, number in tokenizer.get_vocab().items():
        lengths[number] = len(token)  # each byte is shown as a letter
    lengths[special_ids(tokenizer)] = 0
    return lengths


def load_tokenizer(path: Path) -> Any:
    """A tokenizer from its file, which gives all tokens of a text and no others."""
    return _unbounded(package().Tokenizer.from_file(str(path)))


def _unbounded(tokenizer: Any) -> Any:
    """Without the length to cut and to pad to that many a file says, as whoever finetuned with it left it."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def package() -> Any:
    """The package `tokenizers`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise MissingExtraError("tokenizers", "hf") from error


def _word_pieces(config: WordPieceConfig, texts: Iterable[str]) -> Any:
    """The pieces that merging the most frequent pairs gives.

    The package's own trainer of WordPiece numbers pieces in an order that changes with each call, and breaks
    ties by it. That of pairs does not: it is given words whose letters behind the first are others, moved up.
    """
    tokenizers = package()
    pairs = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[PADDING, UNKNOWN, CLASS, END, MASK],
        show_progress=False,
        limit_alphabet=N_LETTERS,
    )
    pairs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    pairs.train_from_iterator(map(_moved_up, texts), trainer)
    vocabulary = {_as_piece(token): number for token, number in pairs.get_vocab().items()}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=N_WORD)
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.add_special_tokens([PADDING, UNKNOWN, CLASS, END, MASK])
    return tokenizer


def _byte_pairs(config: BytePairConfig, texts: Iterable[str]) -> Any:
    tokenizers = package()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _moved_up(text: str) -> str:
    """The words that the tokenizer will find, as it finds them, but faster."""
    plain = text.lower()
    if not plain.isascii():
        letters = unicodedata.normalize("NFD", plain)
        plain = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")
    words = (word for word in WORD.findall(plain) if len(word) <= N_WORD)
    return " ".join(map(_with_inner_letters_moved, words))


@lru_cache(maxsize=1 << 17)
def _with_inner_letters_moved(word: str) -> str:
    return word[0] + "".join(chr(ord(letter) + MOVED_UP) for letter in word[1:])


def _as_piece(token: str) -> str:
    """``##ing`` for letters that were moved up: they stand inside a word."""
    letters = "".join(chr(ord(letter) - MOVED_UP) if ord(letter) >= MOVED_UP else letter for letter in token)
    return f"##{letters}" if ord(token[0]) >= MOVED_UP else letters


def _file_of(name: str) -> Path:
    path = Path(name)
    return path / "tokenizer.json" if path.is_dir() else path


def _existing(name: str) -> Any:
    path = _file_of(name)
    tokenizers = package()
    if not path.is_file() and (path.suffix == ".json" or len(path.parts) > 2):
        raise UserError(  # rather than what a hub thinks of it, whose names are NAME or OWNER/NAME
            f"The tokenizer {show(name)} cannot be had, there is no file {path}: expected a tokenizer.json, "
            "a folder with one, or a name on a hub."
        )
    try:
        if path.is_file():
            return load_tokenizer(path)
        return _unbounded(tokenizers.Tokenizer.from_pretrained(name))
    except Exception as error:  # the package raises no class of its own
        raise UserError(
            f"The tokenizer {show(name)} cannot be had ({show(str(error))}): expected a tokenizer.json, a "
            "folder with one, or a name on a hub that can be reached."
        ) from error


def _first_of(tokenizer: Any, names: tuple[str, ...], does: str) -> int:
    for name in names:
        number = tokenizer.token_to_id(name)
        if number is not None:
            return int(number)
    raise UserError(
        f"The tokenizer has no token that {does}: expected one of {', '.join(names)}; choose another one."
    )
