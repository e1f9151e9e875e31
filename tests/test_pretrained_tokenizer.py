"""Dialogs in the tokens of a pretrained model: layout, mask, what comes back, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.pretrained_tokenizer import PretrainedTokenizer
from nanollama.tokenizer import Message
from tests.toy_pretrained import END, write_tokenizer

pytest.importorskip("transformers")

ROLE_TOKENS = {role: f"<|{role}|>" for role in ("user", "assistant", "database")}
DIALOG = [
    Message("user", "Where was Ann Bell born?"),
    Message("assistant", "FIND birth_place FOR Ann Bell"),
    Message("database", "Rome"),
    Message("assistant", "She was born in Rome."),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PretrainedTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return PretrainedTokenizer(str(folder), ROLE_TOKENS)


def test_the_mask_is_on_what_the_assistant_writes(tokenizer: PretrainedTokenizer) -> None:
    encoded = tokenizer.encode_dialog(DIALOG)
    assert tokenizer.decode(encoded.ids.tolist()) == (
        "<|user|>Where was Ann Bell born?<|assistant|>FIND birth_place FOR Ann Bell"
        f"<|database|>Rome<|assistant|>She was born in Rome.{END}"
    )
    assert tokenizer.decode(encoded.ids[encoded.loss_mask].tolist()) == (
        f"FIND birth_place FOR Ann Bell<|database|>She was born in Rome.{END}"
    )
    assert tokenizer.decode(encoded.ids[~encoded.loss_mask].tolist()) == (
        "<|user|>Where was Ann Bell born?<|assistant|>Rome<|assistant|>"
    )


def test_tokens_of_dialogs_are_new_and_those_of_text_are_not(tokenizer: PretrainedTokenizer) -> None:
    assert tokenizer.end_id == 0
    assert sorted(tokenizer.special_ids.values()) == [
        0,
        *range(tokenizer.vocab_size - 3, tokenizer.vocab_size),
    ]
    written = [token for token in range(tokenizer.vocab_size + 2) if tokenizer.is_text(token)]
    assert written == list(range(1, tokenizer.vocab_size - 3))


def test_a_prompt_is_the_beginning_of_its_dialog_and_comes_back(tokenizer: PretrainedTokenizer) -> None:
    ids = tokenizer.encode_dialog(DIALOG).ids.tolist()
    for n_turns in (1, 3):
        prompt = tokenizer.encode_prompt(DIALOG[:n_turns])
        assert ids[: len(prompt)] == prompt
    assert tokenizer.decode_dialog(ids) == DIALOG


def test_text_never_becomes_a_special_token(tokenizer: PretrainedTokenizer) -> None:
    said = f"a<|assistant|>b{END}\N{SNOWMAN} "
    ids = tokenizer.encode(said)
    assert all(map(tokenizer.is_text, ids)) and tokenizer.decode(ids) == said


def test_a_saved_tokenizer_is_the_same(tokenizer: PretrainedTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "again")
    again = PretrainedTokenizer(str(tmp_path / "again"), ROLE_TOKENS)
    assert again.encode_dialog(DIALOG).ids.tolist() == tokenizer.encode_dialog(DIALOG).ids.tolist()
    assert again.fingerprint() == tokenizer.fingerprint()


def test_dialogs_begin_with_what_texts_begin_with(tmp_path: Path) -> None:
    import tokenizers

    package = write_tokenizer(tmp_path, bos_token=END)
    package.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, 0)]
    )
    package.save_pretrained(tmp_path)
    tokenizer = PretrainedTokenizer(str(tmp_path), ROLE_TOKENS)
    encoded = tokenizer.encode_dialog(DIALOG)
    assert encoded.ids[0] == 0 and not encoded.loss_mask[0]
    assert tokenizer.encode_prompt(DIALOG[:1])[0] == 0
    assert tokenizer.decode_dialog(encoded.ids.tolist()) == DIALOG


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, end=None)
    with pytest.raises(
        UserError, match=r"no token that ends a text.*expected an eos_token in its tokenizer_config"
    ):
        PretrainedTokenizer(str(tmp_path), ROLE_TOKENS)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no tokenizer that can be read .*expected that of a model"):
        PretrainedTokenizer(str(tmp_path), ROLE_TOKENS)


def test_no_tokenizer_runs_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # what transformers would ask for
    write_tokenizer(tmp_path)
    ran, keys = tmp_path / "ran", tmp_path / "tokenizer_config.json"
    code = f"open({str(ran)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Own\n"
    (tmp_path / "own.py").write_text(code)
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    keys.write_text(json.dumps({**json.loads(keys.read_text()), **own}))
    with pytest.raises(UserError, match="can only be read by code of its own, which is never run"):
        PretrainedTokenizer(str(tmp_path), ROLE_TOKENS)
    assert not ran.exists()
