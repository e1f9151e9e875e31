"""The tokenizer that Hugging Face loads encodes as ours does: any text, and dialogs by the chat template."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_dialogs import TOKENIZER

from nanollama.exchange.tokenizers import as_tokenizers, byte_letters, save_tokenizer
from nanollama.tokenizer import ByteTokenizer, Message

pytest.importorskip("tokenizers")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
HARD = ["", " a  b\n\r\t\0", "é́ ñ 漢字 \U0001f9d1‍\U0001f680 \ufeff\u200d", "<user", "x" * 3000]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(TOKENIZER, folder, max_seq_len=64)
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_each_byte_has_a_letter_of_its_own() -> None:
    assert len(set(byte_letters())) == 256
    assert byte_letters()[ord("A")] == "A" and byte_letters()[ord(" ")] == "Ġ"


@given(TEXTS)
def test_any_text_becomes_the_same_ids_and_comes_back(loaded: Any, text: str) -> None:
    ids = loaded(text, split_special_tokens=True)["input_ids"]
    assert ids == TOKENIZER.encode(text)
    assert loaded.decode(ids) == text


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(loaded: Any, text: str) -> None:
    assert loaded(text)["input_ids"] == TOKENIZER.encode(text)
    assert loaded.decode(TOKENIZER.encode(text)) == text


def test_the_name_of_a_special_token_is_text_or_the_token_as_one_asks(loaded: Any) -> None:
    text = "a<user>b<end>"
    assert loaded(text, split_special_tokens=True)["input_ids"] == TOKENIZER.encode(text)
    assert loaded(text)["input_ids"] == [97, 256, 98, 259]


@given(st.lists(st.integers(0, 259), max_size=40))
def test_any_ids_are_decoded_alike(loaded: Any, ids: list[int]) -> None:
    assert loaded.decode(ids) == TOKENIZER.decode(ids)


@given(st.lists(st.tuples(st.sampled_from(TOKENIZER.roles), TEXTS.filter(lambda text: "<" not in text))))
def test_dialogs_become_the_same_ids_by_the_chat_template(loaded: Any, turns: list[tuple[str, str]]) -> None:
    messages = [Message(*turn) for turn in turns]
    told = [message._asdict() for message in messages]
    whole = loaded.apply_chat_template(told, tokenize=False) if told else "<end>"
    assert loaded(whole)["input_ids"] == TOKENIZER.encode_dialog(messages).ids.tolist()
    if told:
        prompt = loaded.apply_chat_template(told, add_generation_prompt=True)["input_ids"]
        assert prompt == TOKENIZER.encode_prompt(messages)


def test_it_knows_its_end_its_padding_and_its_length(loaded: Any) -> None:
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.model_max_length) == (259, 259, 64)
    assert len(loaded) == TOKENIZER.vocab_size
    assert loaded.decode([97, 256, 98, 259], skip_special_tokens=True) == "ab"
    with pytest.raises(Exception, match="Unknown role system"):
        loaded.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_other_roles_keep_their_numbers(tmp_path: Path) -> None:
    roles = ["zed", "assistant", *random.Random(0).sample("abcdefghij", 9)]
    ours = ByteTokenizer(roles)
    there = as_tokenizers(ours)
    assert all(there.token_to_id(f"<{name}>") == index for name, index in ours.special_ids.items())
