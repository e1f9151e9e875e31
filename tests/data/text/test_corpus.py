"""The corpus when several processes make it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanollama.data.text import corpus
from nanollama.errors import UserError


def put(monkeypatch: pytest.MonkeyPatch, first: Path | None = None) -> None:
    """A corpus of one document; another process finishes ``first`` while it is read."""

    def read(folder: Path) -> list[str]:
        if first is not None:
            first.write_text("whole\n")
        return ["a"]

    source = corpus.Source(lambda packages, folder: None, ("p",), read, corpus.hash_of(["a"]))  # type: ignore[arg-type]
    monkeypatch.setattr(corpus, "SOURCES", {"here": source})


def test_makers_of_one_corpus_leave_each_other_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, others = tmp_path / "english.jsonl", tmp_path / "english.new"
    others.write_text("half")
    put(monkeypatch)
    corpus.make_corpus(out)
    assert others.read_text() == "half" and out.read_text() == '{"text": "a", "source": "here"}\n'
    assert sorted(tmp_path.iterdir()) == [out, others]


def test_who_comes_second_takes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "english.jsonl"
    put(monkeypatch, first=out)
    corpus.make_corpus(out)
    assert out.read_text() == "whole\n"


def test_a_corpus_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    put(monkeypatch)
    with pytest.raises(
        UserError, match=r"cannot be written to .*file/english\.jsonl: .*; name another file\."
    ):
        corpus.make_corpus(tmp_path / "file" / "english.jsonl")
