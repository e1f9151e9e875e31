"""The tokenizer of a pretrained model, by the package transformers, with special tokens for dialogs.

A dialog is laid out as by every `DialogTokenizer`. The token of a role is added to the tokenizer; the token
that ends a dialog is the one that ends a text for the pretrained model; and where that expects a token in
front of every text, dialogs begin with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nanollama.errors import MissingExtraError, UserError
from nanollama.tokenizer import END, DialogTokenizer


class PretrainedTokenizer(DialogTokenizer):
    """Cuts texts as a pretrained model does.

    Args:
        path: folder of a model, or its name on the hub.
        role_tokens: who may speak, with the special token that opens the turn of each.
        package: the tokenizer of transformers itself, with these tokens, where it lies in no folder yet.

    Raises:
        UserError: there is no such tokenizer, or it has no token that ends a text.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, path: str, role_tokens: Mapping[str, str], package: Any = None) -> None:
        self.package = load_tokenizer(path, tuple(role_tokens.values())) if package is None else package
        end = self.package.eos_token_id
        if end is None:
            raise UserError(
                f"model.path: the tokenizer of {path} has no token that ends a text, which ends a dialog: "
                "expected an eos_token in its tokenizer_config.json."
            )
        ids = {role: int(self.package.convert_tokens_to_ids(name)) for role, name in role_tokens.items()}
        known = self.package.added_tokens_decoder.items()
        special = {number for number, token in known if token.special} | {*self.package.all_special_ids}
        first, begins = self.package.encode("a")[:1], self.package.bos_token_id
        super().__init__(
            {**ids, END: int(end)}, n_token_ids(self.package), special, first if first == [begins] else ()
        )

    def encode(self, text: str) -> list[int]:
        """See `DialogTokenizer.encode`."""
        ids: list[int] = self.package.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """See `DialogTokenizer.decode`."""
        return str(self.package.decode(list(ids), clean_up_tokenization_spaces=False))

    def fingerprint(self) -> str:
        """A hash of all tokens and their ids."""
        vocabulary = sorted(self.package.get_vocab().items(), key=lambda pair: pair[1])
        return hashlib.sha256(repr((vocabulary, self.special_ids)).encode("utf-8", "replace")).hexdigest()[
            :16
        ]

    def save(self, folder: Path) -> None:
        """Write it as transformers and others read it."""
        self.package.save_pretrained(folder)


@lru_cache(maxsize=8)
def load_tokenizer(path: str, added: tuple[str, ...] = ()) -> Any:
    """A tokenizer of transformers with special tokens added, which it may have already.

    Raises:
        UserError: there is none.
        MissingExtraError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path, local_files_only=Path(path).is_dir(), trust_remote_code=False
        )
    except Exception as error:  # of many kinds, from the packages below
        refuse_code(path, error)
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"model.path: {path} has no tokenizer that can be read ({said}): expected that of a model, such "
            "as tokenizer.json with tokenizer_config.json."
        ) from error
    add_special_tokens(tokenizer, added)
    return tokenizer


def refuse_code(path: str, error: Exception) -> None:
    """Say so where transformers would read a model or tokenizer only by running what lies beside it.

    Left to itself it asks on the terminal, and a yes, of whomever it is, runs the code of a stranger.

    Raises:
        UserError: that is what the error is about.
    """
    if "trust_remote_code" in str(error):
        raise UserError(
            f"model.path: {path} can only be read by code of its own, which is never run: expected a model "
            "and a tokenizer of kinds that transformers itself has."
        ) from error


def add_special_tokens(tokenizer: Any, names: Sequence[str]) -> None:
    """Give a tokenizer of transformers special tokens, which it may have already."""
    import transformers

    tokens = [transformers.AddedToken(name, special=True, normalized=False) for name in names]
    tokenizer.add_tokens(tokens, special_tokens=True)


def n_token_ids(tokenizer: Any) -> int:
    """Largest token id plus one: ids may have gaps, where a tokenizer has fewer tokens than ids."""
    return 1 + max(map(int, tokenizer.get_vocab().values()), default=-1)
