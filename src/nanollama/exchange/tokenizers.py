"""Tokenizers that Hugging Face loads, equal to those that runs were trained with.

A `nanollama.tokenizer.ByteTokenizer` becomes pairs of bytes without a single pair: 256 letters that stand for
bytes, behind them the special tokens. The one difference is of use, not of ids: there, ``<user>`` in a text
is the special token, which a chat template needs; ``split_special_tokens=True`` makes it plain text as here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanollama.data.text.tokens import END_NAMES, MASK_NAMES, PADDING, UNKNOWN, package
from nanollama.pretrained_tokenizer import PretrainedTokenizer
from nanollama.tokenizer import N_BYTES, ByteTokenizer

TOKENIZER_FILE, SETTINGS_FILE = "tokenizer.json", "tokenizer_config.json"


def as_tokenizers(tokenizer: Any) -> Any:
    """A `tokenizers.Tokenizer`, of a tokenizer of ours or as it is.

    Raises:
        MissingExtraError: the package is not installed.
    """
    if isinstance(tokenizer, PretrainedTokenizer):
        return tokenizer.package.backend_tokenizer
    if not isinstance(tokenizer, ByteTokenizer):
        return tokenizer
    tokenizers = package()
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    built = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=letters, merges=[]))
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    built.add_special_tokens(
        [
            tokenizers.AddedToken(f"<{name}>", special=True, normalized=False)
            for name in sorted(tokenizer.special_ids, key=lambda name: tokenizer.special_ids[name])
        ]
    )
    assert built.get_vocab_size() == tokenizer.vocab_size
    return built


def byte_letters() -> list[str]:
    """The letter that stands for each byte: itself if it is printed and is no space, else the next of 256 on.

    As in GPT-2, so that every program that reads its tokenizers reads these.
    """
    letters, n_others = [], 0
    for byte in range(N_BYTES):
        shown = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF
        letters.append(chr(byte if shown else N_BYTES + n_others))
        n_others += not shown
    return letters


def chat_template(tokenizer: ByteTokenizer) -> str:
    """Turns as `ByteTokenizer.encode_dialog` and `encode_prompt` lay them out, as a template of jinja."""
    roles = json.dumps(list(tokenizer.roles))
    return (
        "{%- for message in messages -%}"
        "{%- if message['role'] not in " + roles + " -%}"
        "{{- raise_exception('Unknown role ' + message['role']) -}}"
        "{%- endif -%}"
        "{{- '<' + message['role'] + '>' + message['content'] -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<" + tokenizer.assistant + ">' -}}"
        "{%- else -%}{{- '<end>' -}}{%- endif -%}"
    )


def end_token(tokenizer: Any) -> str | None:
    """The token that ends a dialog or a document, if one of the usual names does."""
    if isinstance(tokenizer, ByteTokenizer):
        return "<end>"
    if isinstance(tokenizer, PretrainedTokenizer):
        return str(tokenizer.package.eos_token)
    return next((name for name in END_NAMES if tokenizer.token_to_id(name) is not None), None)


def padding_token(tokenizer: Any) -> str | None:
    """The token that pads; the end where there is no other: padding carries no attention and no loss."""
    if isinstance(tokenizer, PretrainedTokenizer):
        return str(tokenizer.package.pad_token or tokenizer.package.eos_token)
    has_own = not isinstance(tokenizer, ByteTokenizer) and tokenizer.token_to_id(PADDING) is not None
    return PADDING if has_own else end_token(tokenizer)


def save_tokenizer(tokenizer: Any, folder: Path, max_seq_len: int) -> None:
    """Write what ``AutoTokenizer.from_pretrained`` reads.

    Args:
        tokenizer: a `ByteTokenizer`, a `tokenizers.Tokenizer`, or that of a pretrained model.
        folder: exists.
        max_seq_len: longest input of the model, in tokens.
    """
    if isinstance(tokenizer, PretrainedTokenizer):
        return tokenizer.save(folder)
    there = as_tokenizers(tokenizer)
    there.save(str(folder / TOKENIZER_FILE))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_seq_len,
        "clean_up_tokenization_spaces": False,
        "pad_token": padding_token(tokenizer),
        "eos_token": end_token(tokenizer),
        "unk_token": UNKNOWN if there.token_to_id(UNKNOWN) is not None else None,
        "mask_token": next((name for name in MASK_NAMES if there.token_to_id(name) is not None), None),
    }
    if isinstance(tokenizer, ByteTokenizer):
        settings["chat_template"] = chat_template(tokenizer)
    text = json.dumps({key: value for key, value in settings.items() if value is not None}, indent=2)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
