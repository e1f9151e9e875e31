"""Kept tokens: damaged ones are made anew, and what they are made from is told by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_text import config

from nanollama.data.text import tokenised
from nanollama.data.text.config import PretrainedTokenizerConfig, WordPieceConfig
from nanollama.data.text.tokenised import FACTS, TOKENIZER, tokenise
from nanollama.data.text.tokens import _moved_up, build_tokenizer
from nanollama.errors import UserError

pytest.importorskip("tokenizers")


def existing(path: Path) -> PretrainedTokenizerConfig:
    return PretrainedTokenizerConfig(implementation="hugging_face", path=str(path))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (TOKENIZER, lambda text: text[:-20]),
        (TOKENIZER, None),
        (FACTS, lambda text: "[]"),
        (FACTS, lambda text: '{"hashes": null}'),
        (FACTS, lambda text: "3"),
        (FACTS, None),
        ("train.npy", lambda text: ""),
    ],
)
def test_damaged_tokens_are_made_anew(tmp_path: Path, name: str, damage: Callable[[str], str] | None) -> None:
    first = tokenise(config(tmp_path))
    path = first.folder / name
    whole = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage(whole.decode("latin-1")))
    again = tokenise(config(tmp_path))
    assert again == first and path.read_bytes() == whole and again.vocab_size == first.vocab_size


def test_who_comes_second_leaves_the_tokens_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of one run start together; the first one reads while the others still write."""
    made, make = [], tokenised._make

    def make_while_another_does(*arguments: Any) -> None:
        make(*arguments)
        monkeypatch.setattr(tokenised, "_make", make)
        made.append((tokenise(config(tmp_path)).folder / FACTS).stat().st_ino)

    monkeypatch.setattr(tokenised, "_make", make_while_another_does)
    found = tokenise(config(tmp_path))
    assert made == [(found.folder / FACTS).stat().st_ino]
    assert list((tmp_path / "c").iterdir()) == [found.folder]


def test_the_same_bytes_read_in_another_way_are_another_text(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "number {n} of many"}}\n' for n in range(200))
    folders = set()
    for names in (("a.txt",), ("a.jsonl",), ("a.txt", "b.txt")):
        for name in names:
            (tmp_path / name).write_text(lines)
        folders.add(tokenise(config(tmp_path, files=tuple(tmp_path / name for name in names))).folder)
    (tmp_path / "a.txt").write_text(lines + lines[:9])
    (tmp_path / "b.txt").write_text(lines[9:])  # together the bytes of before, with a line cut in two
    folders.add(tokenise(config(tmp_path, files=(tmp_path / "a.txt", tmp_path / "b.txt"))).folder)
    assert len(folders) == 4


def with_end(words: dict[str, int]) -> Any:
    """A tokenizer of whole words, with ``[UNK]`` 0, ``[SEP]`` 1 and ``[MASK]`` 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = {"[UNK]": 0, "[SEP]": 1, "[MASK]": 2}
    tokenizer = Tokenizer(models.WordLevel({**special, **words}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


@pytest.mark.parametrize("largest", [500, 70_000])
def test_ids_with_gaps_are_counted_by_the_largest(tmp_path: Path, largest: int) -> None:
    path = tmp_path / "gaps.json"
    with_end({"number": 7, "after": largest}).save(str(path))
    found = tokenise(config(tmp_path, tokenizer=existing(path)))
    assert found.rows("train").max() == largest and found.vocab_size == largest + 1


def test_names_of_special_tokens_in_a_text_are_ordinary_text(tmp_path: Path) -> None:
    path = tmp_path / "named.txt"
    path.write_text("\n".join(f"hello [MASK] the {n} [SEP] mask" for n in range(200)))
    found = tokenise(config(tmp_path, files=(path,)))
    ids = found.rows("train").ravel().tolist()
    assert found.tokenizer.token_to_id("[MASK]") not in ids
    first = ids[: ids.index(found.tokenizer.token_to_id("[SEP]"))]
    assert found.tokenizer.decode(first) == "hello [ mask ] the 0 [ sep ] mask"


def test_another_tokenizer_at_the_same_place_is_another(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for name, largest in ((path, 8), (tmp_path, 9)):
        with_end({"number": 7, "after": largest - 1}).save(str(path))
        before = tokenise(config(tmp_path, tokenizer=existing(name)))
        with_end({"number": 7, "after": largest}).save(str(path))
        after = tokenise(config(tmp_path, tokenizer=existing(name)))
        assert (before.vocab_size, after.vocab_size) == (largest, largest + 1)


def test_words_without_end_are_unknown_and_left_out_of_the_pieces() -> None:
    section = WordPieceConfig(implementation="wordpiece", vocab_size=90)
    texts = [f"the number {n}" for n in range(99)]
    plain, made = (build_tokenizer(section, [*texts, word]) for word in ("", "qxz" * 100))
    assert made.get_vocab() == plain.get_vocab()
    for n_letters, is_known in ((100, True), (101, False)):
        found = made.encode("1" * n_letters, add_special_tokens=False)
        assert (found.tokens != ["[UNK]"]) == is_known
    assert _moved_up("a " + "b" * 100_000 + " c") == "a c"


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_cache_that_is_no_folder_is_said(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"Tokens cannot be kept in text\.cache = .*/file.*; expected a folder"
    ):
        tokenise(config(tmp_path, cache=tmp_path / place))
    assert (tmp_path / "file").read_text() == ""
