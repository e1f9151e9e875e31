"""Examples know their document, are spread over all of them, and intervals by document hold the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_text import config

from nanollama.data.text.documents import read_documents, split_of
from nanollama.data.text.spread import document_means, document_sums, spread_rows
from nanollama.data.text.tokenised import tokenise
from nanollama.statistics import mean_interval

pytest.importorskip("tokenizers")


def test_an_example_is_of_the_document_of_its_first_token(tmp_path: Path) -> None:
    section = config(tmp_path, seq_len=8)
    text = tokenise(section)
    held_out = [each for each in read_documents(section) if split_of(each, section.held_out) == "valid"]
    lengths = [len(text.tokenizer.encode(each, add_special_tokens=False).ids) + 1 for each in held_out]
    of_token = np.repeat(np.arange(len(lengths)), lengths)
    found = text.documents("valid")
    assert found.tolist() == of_token[: len(found) * 8 : 8].tolist()
    assert len(found) == len(text.rows("valid")) and len(set(found)) > 10


def test_examples_are_spread_over_all_documents_alike() -> None:
    documents = np.repeat(np.arange(40), np.random.default_rng(0).integers(2, 60, 40))
    taken = {n_rows: spread_rows(documents, n_rows) for n_rows in (10, 40, 64, 80, 512)}
    for n_rows, numbers in taken.items():
        counts = np.bincount(documents[numbers], minlength=40)
        most = counts.max()
        assert len(set(numbers)) == len(numbers) == n_rows and (np.diff(numbers) > 0).all()
        assert all(
            count >= most - 1 or count == there
            for count, there in zip(counts, np.bincount(documents), strict=True)
        )
    for fewer, more in ((10, 40), (40, 64), (64, 80), (80, 512)):
        assert {*taken[fewer]} < {*taken[more]}
    firsts = np.searchsorted(documents, np.arange(40))
    assert {*firsts} != {*taken[40]}  # any example of a document, not the one it begins with
    assert documents[taken[10]].max() > 20  # any documents, not the first ones
    assert (spread_rows(documents, 64) == taken[64]).all()
    for n_rows in (None, len(documents), 10**6):
        assert spread_rows(documents, n_rows).tolist() == list(range(len(documents)))


def test_sums_and_means_by_document() -> None:
    documents = np.array([7, 2, 7, 9])
    assert document_sums([1, 2, 4, 8], documents).tolist() == [2, 5, 8]
    assert document_means([1, 2, 4, 8], documents) == [2, 2.5, 8]


def test_the_mean_loss_of_examples_of_documents_with_an_effect_of_their_own() -> None:
    """40 documents of 2 to 60 examples, 64 of which are measured: nominally 95 %."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(800):
        documents = np.repeat(np.arange(40), rng.integers(2, 60, 40))
        values = 3 + rng.normal(0, 0.3, 40)[documents] + rng.normal(0, 0.2, len(documents))
        some = spread_rows(documents, 512)
        _, low, high, n = mean_interval(document_means(values[some].tolist(), documents[some]))
        covered.append(low <= 3 <= high)
    assert n == 40 and np.mean(covered) >= 0.93
