"""Bytes, special tokens, and the marks of what the assistant writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanollama.tokenizer import ByteTokenizer, Message

ROLES = ("user", "assistant", "database")
USER, ASSISTANT, DATABASE, END = 256, 257, 258, 259
DIALOG = (
    Message("user", "q"),
    Message("assistant", "r"),
    Message("database", "v"),
    Message("assistant", "a"),
)


def test_special_tokens_follow_the_bytes() -> None:
    tokenizer = ByteTokenizer(ROLES)
    assert tokenizer.vocab_size == 260
    assert tokenizer.special_ids == {"user": USER, "assistant": ASSISTANT, "database": DATABASE, "end": END}


def test_a_dialog_is_laid_out_turn_by_turn_and_the_assistant_writes_its_turns_and_their_ends() -> None:
    encoded = ByteTokenizer(ROLES).encode_dialog(DIALOG)
    q, r, v, a = b"qrva"
    assert encoded.ids.tolist() == [USER, q, ASSISTANT, r, DATABASE, v, ASSISTANT, a, END]
    assert encoded.loss_mask.tolist() == [False, False, False, True, True, False, False, True, True]


def test_a_prompt_gives_the_assistant_the_word() -> None:
    tokenizer = ByteTokenizer(ROLES)
    prompt = tokenizer.encode_prompt(DIALOG[:1])
    assert prompt == tokenizer.encode_dialog(DIALOG).ids[: len(prompt)].tolist()


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text(max_size=20))))
def test_decoding_gives_back_the_dialog(turns: list[tuple[str, str]]) -> None:
    tokenizer = ByteTokenizer(ROLES)
    messages = [Message(*turn) for turn in turns]
    assert tokenizer.decode_dialog(tokenizer.encode_dialog(messages).ids.tolist()) == messages


def test_text_never_becomes_a_special_token() -> None:
    assert max(ByteTokenizer(ROLES).encode("<end><assistant>\udcff".encode(errors="replace").decode())) < 256


def test_bytes_that_are_not_text_are_shown_and_do_not_fail() -> None:
    assert ByteTokenizer(ROLES).decode([0xFF, END, ord("a"), 999]) == "\ufffd<end>a<999?>"


@pytest.mark.parametrize("ids", [[], [ord("a")], [END, USER, ord("a")]])
def test_what_is_not_in_a_turn_is_left_out(ids: list[int]) -> None:
    assert ByteTokenizer(ROLES).decode_dialog(ids) == []


def test_unknown_roles_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown role 'system'"):
        ByteTokenizer(ROLES).encode_dialog([Message("system", "x")])
    with pytest.raises(ValueError, match="must differ"):
        ByteTokenizer(roles=("user", "assistant", "user"))
    with pytest.raises(ValueError, match="'bot' is not among the roles"):
        ByteTokenizer(ROLES, assistant="bot")
