"""Batches ask for the next token where it carries loss, whatever the padding, packing and splitting."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanollama.data.batch import IGNORE, Batch, collate, first_fit

documents = st.lists(
    st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=2, max_size=9), min_size=1, max_size=7
)


def make(rows: list[list[tuple[int, bool]]], **options: int) -> Batch:
    ids = [np.array([token for token, _ in row]) for row in rows]
    masks = [np.array([False, *[marked for _, marked in row[1:]]]) for row in rows]
    return collate(ids, masks, **options)


def pairs(batch: Batch) -> list[tuple[int, int]]:
    """(token, next token) of every query, sorted."""
    assert batch.query_positions is not None
    here = batch.input_ids.gather(1, batch.query_positions)
    asked = batch.targets != IGNORE
    return sorted(zip(here[asked].tolist(), batch.targets[asked].tolist(), strict=True))


@given(documents, st.booleans())
def test_every_marked_token_is_asked_for_once(rows: list[list[tuple[int, bool]]], packed: bool) -> None:
    expected = sorted(
        (before, token) for row in rows for (before, _), (token, marked) in itertools.pairwise(row) if marked
    )
    batch = make(rows, **({"row_len": 12} if packed else {}))
    assert pairs(batch) == expected
    assert batch.n_loss_tokens == len(expected)
    assert batch.n_tokens == sum(len(row) - 1 for row in rows)
    assert batch.n_examples == len(rows)


@given(documents, st.data())
def test_parts_of_a_batch_ask_for_what_the_batch_asks(
    rows: list[list[tuple[int, bool]]], data: st.DataObject
) -> None:
    batch = make(rows)
    parts = batch.split(data.draw(st.integers(1, len(rows))))
    assert sorted(pair for part in parts for pair in pairs(part)) == pairs(batch)
    assert sum(part.n_loss_tokens for part in parts) == batch.n_loss_tokens
    assert sum(part.n_tokens for part in parts) == batch.n_tokens
    assert sum(part.n_examples for part in parts) == batch.n_examples
    assert all(part.input_ids.is_contiguous() and part.targets.is_contiguous() for part in parts)


def test_a_hash_is_of_every_field_and_of_nothing_else() -> None:
    rows = [[(1, False), (2, True), (3, False), (4, True)], [(5, False), (6, True)]]
    batch = make(rows, row_len=12)
    assert make(rows, row_len=12).sha256() == batch.sha256()
    others = [batch]
    for field in fields(batch):
        value = getattr(batch, field.name)
        changed = value + 1 if isinstance(value, torch.Tensor) else not value
        others.append(replace(batch, **{field.name: changed}))
    others.append(replace(batch, targets=batch.targets.to(torch.int32)))
    others.append(replace(batch, targets=batch.targets.reshape(-1)))
    assert len({other.sha256() for other in others}) == len(others)


def test_parts_are_trimmed_to_their_last_query() -> None:
    rows = [[(1, False), (2, True), (3, False)], [(1, False)] * 5 + [(2, True)]]
    short, long = make(rows).split(2)
    assert short.input_ids.shape == (1, 1)
    assert long.input_ids.shape == (1, 5)


def test_packed_rows_number_their_documents_and_padding_is_its_own() -> None:
    rows = [[(1, False), (2, True), (3, True)], [(4, False), (5, True)], [(6, False), (7, True)]]
    batch = make(rows, row_len=4)
    assert batch.input_ids.tolist() == [[4, 6, 1, 2]]
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 1, 2, 2]]


def test_parts_of_packed_rows_keep_their_documents() -> None:
    rows = [[(token, False), (token, True), (token, True)] for token in range(1, 8)]
    rows[-1] = [(8, False)] * 3 + [(9, True)]  # the last row holds a single document
    batch = make(rows, row_len=4)
    assert batch.documents is not None and len(batch.input_ids) == 4
    for n_parts in (2, 4):
        start = 0
        for part in batch.split(n_parts):
            n_rows, seq_len = part.input_ids.shape
            assert part.documents is not None
            assert torch.equal(part.documents, batch.documents[start : start + n_rows, :seq_len])
            start += n_rows
        assert start == 4


def test_packing_is_told_wherever_a_row_is_shared() -> None:
    alone, pair = [(1, False)] * 2 + [(2, True)] * 3, [(3, False), (4, True)]
    assert make([alone], row_len=4).documents is None
    assert make([pair, pair, alone], row_len=4).documents is not None
    assert make([pair, alone, alone], row_len=5).documents is not None


def test_first_fit_fills_the_first_row_with_room() -> None:
    assert first_fit([3, 4, 2, 1], row_len=5) == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="6 inputs does not fit into rows of 5"):
        first_fit([6], row_len=5)


def test_splitting_into_more_parts_than_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="1 rows into 2 parts"):
        make([[(1, False), (2, True)]]).split(2)


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = make([[(1, False), (2, True)]]).to(torch.device("meta"))
    assert batch.input_ids.is_meta and batch.targets.is_meta
    assert batch.query_positions is not None and batch.query_positions.is_meta
    packed = make([[(1, False), (2, True)]] * 2, row_len=2).to(torch.device("meta"))
    assert packed.documents is not None and packed.documents.is_meta
