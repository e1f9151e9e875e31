"""Batches of a run, and those that it is measured on, which are the same for all runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from apps.tying.settings import HeldOut, TyingConfig
from nanollama.data.batch import Batch
from nanollama.data.masking import Masker
from nanollama.data.rows import RowStream, next_token_batch
from nanollama.data.text.documents import Split
from nanollama.data.text.spread import spread_rows
from nanollama.data.text.tokenised import TokenisedText, tokenise, tokenise_for
from nanollama.data.text.tokens import mask_id
from nanollama.errors import UserError
from nanollama.seeds import named_seed
from nanollama.training.trained import loaded_runs

FIXED_SEED = 0
"""Of the masks that all runs are measured on."""


def read_text(config: TyingConfig) -> TokenisedText:
    """The tokens of a run; raises as `tokenise_for`."""
    return tokenise_for(config.text, config.model.vocab_size)


def read_tokenizer(config: TyingConfig) -> Any:
    """The `tokenizers.Tokenizer` of a run, kept beside its tokens."""
    return tokenise(config.text).tokenizer


def check_unlearned(config: TyingConfig) -> None:
    """The weights that a run starts from must not have learned documents that are held out from it.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, held out fewer.
    """
    for path, source in loaded_runs(config):
        config.text.check_unlearned(path, source.text)


def build_stream(config: TyingConfig, text: TokenisedText) -> RowStream:
    """What a run learns from."""
    seed = named_seed(config.training.seed, "data")
    return RowStream(
        learned_rows(config, text),
        config.training.batch_size,
        named_seed(seed, "rows"),
        _masker(config, text, named_seed(seed, "masks")),
        config.first_step,
    )


def learned_rows(config: TyingConfig, text: TokenisedText) -> np.ndarray:
    """Examples (n, T) to learn from, without those in which no token can be asked for.

    Raises:
        UserError: there is not one.
    """
    rows, able = text.rows("train"), _numbers_to_ask(config, text, "train")
    return (rows if len(able) == len(rows) else rows[able])[: config.n_rows]


def held_out_batches(
    config: TyingConfig, text: TokenisedText, split: HeldOut, n_rows: int | None, batch_size: int
) -> list[Batch]:
    """Held-out examples, those of `held_out_examples`, with masks that are functions of their numbers alone.

    Raises:
        UserError: there is not one in which a token can be asked for.
    """
    numbers, _ = held_out_examples(config, text, split, n_rows)
    rows = text.rows(split)
    masker = _masker(config, text, FIXED_SEED)
    batches = []
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        batches.append(next_token_batch(rows[some]) if masker is None else masker.batch(rows[some], some))
    return batches


def held_out_examples(
    config: TyingConfig, text: TokenisedText, split: HeldOut, n_rows: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n,) of the examples that are measured on, spread over all documents, and their documents (n,).

    Raises:
        UserError: there is not one in which a token can be asked for.
    """
    able = _numbers_to_ask(config, text, split)
    documents = text.documents(split)[able]
    chosen = spread_rows(documents, n_rows)
    return able[chosen], documents[chosen]


def token_frequencies(config: TyingConfig, text: TokenisedText) -> np.ndarray:
    """(V,) how often each token is learned from, as shares; one more of each, so that none is impossible."""
    counts = np.bincount(learned_rows(config, text).reshape(-1), minlength=config.model.vocab_size) + 1.0
    counts[text.special] *= config.model.causal  # never asked for where tokens are masked
    return counts / counts.sum()


def _numbers_to_ask(config: TyingConfig, text: TokenisedText, split: Split) -> np.ndarray:
    """Of the examples in which a token can be asked for."""
    rows = text.rows(split)
    if config.model.causal:  # which asks for special tokens, too
        return np.arange(len(rows))
    is_ordinary = ~np.isin(np.arange(text.vocab_size), text.special)
    can_ask = is_ordinary[rows].any(axis=1)
    if not can_ask.any():
        raise UserError(
            f"No token of the text for {split} can be masked, all are special ones such as [UNK]: expected a "
            "tokenizer that knows the words, more documents, or a larger held_out."
        )
    return np.flatnonzero(can_ask)


def _masker(config: TyingConfig, text: TokenisedText, seed: int) -> Masker | None:
    if config.model.causal:
        return None
    return Masker(config.masking, text.vocab_size, mask_id(text.tokenizer), text.special, seed)
