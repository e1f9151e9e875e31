"""A batch of token sequences and the positions at which a model is asked for the next token.

Shapes: B rows, T tokens a row, M queries a row.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

IGNORE = -100  # target where there is no loss; the default `ignore_index` of torch's cross entropy
PAD = 0  # any valid id will do: padding stands after all that is read, and carries no loss


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one step.

    Args:
        input_ids: (B, T) int64.
        targets: (B, M) int64, the next token at each query, ``IGNORE`` where a row has fewer than M.
        query_positions: (B, M) int64, the position in ``input_ids`` of each query; ``None`` when every
            position is one (M = T). Models skip all work that no query needs.
        documents: (B, T) int64, non-decreasing along a row, when several documents share a row: no token sees
            another document. ``None`` when a row is one document.
        n_loss_tokens: targets that are not ``IGNORE``.
        n_tokens: input tokens that are not padding.
        n_examples: documents.
        sees_all: do queries need what stands behind them, as masked tokens do? Then no row may be trimmed.
    """

    input_ids: Tensor
    targets: Tensor
    query_positions: Tensor | None
    documents: Tensor | None
    n_loss_tokens: int
    n_tokens: int
    n_examples: int
    sees_all: bool = False

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            query_positions=move(self.query_positions),
            documents=move(self.documents),
        )

    def sha256(self) -> str:
        """A hash of all that is in it, to tell one batch from another."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{field.name} {value.dtype} {list(value.shape)} ".encode())
                digest.update(value.cpu().contiguous().numpy().tobytes())
            else:
                digest.update(f"{field.name} {value} ".encode())
        return digest.hexdigest()

    def split(self, n_parts: int) -> list[Batch]:
        """Micro-batches of consecutive rows, as even as can be, each trimmed to what its queries need.

        Their summed losses add up to the batch's. `collate` orders rows by length, so parts lose most
        of the padding. Counts of input tokens and examples are shared out by rows (they are for reports);
        loss tokens are exact.
        """
        if n_parts == 1:
            return [self]
        n_rows = len(self.input_ids)
        if not 1 <= n_parts <= n_rows:
            raise ValueError(f"Cannot split a batch of {n_rows} rows into {n_parts} parts.")
        edges = [n_rows * part // n_parts for part in range(n_parts + 1)]
        return [self._rows(start, stop) for start, stop in itertools.pairwise(edges)]

    def _rows(self, start: int, stop: int) -> Batch:
        n_rows = len(self.input_ids)
        targets, positions, documents = self.targets[start:stop], self.query_positions, self.documents
        input_ids = self.input_ids[start:stop]
        has_loss = targets != IGNORE
        if positions is not None:
            width = max(int(has_loss.sum(dim=1).max()), 1)
            targets, positions = targets[:, :width].contiguous(), positions[start:stop, :width].contiguous()
            if not self.sees_all:
                input_ids = input_ids[:, : int(positions.max()) + 1].contiguous()
        return Batch(
            input_ids=input_ids,
            targets=targets,
            query_positions=positions,
            documents=None if documents is None else documents[start:stop, : input_ids.shape[1]],
            n_loss_tokens=int(has_loss.sum()),
            n_tokens=self.n_tokens * stop // n_rows - self.n_tokens * start // n_rows,
            n_examples=self.n_examples * stop // n_rows - self.n_examples * start // n_rows,
            sees_all=self.sees_all,
        )


def collate(
    sequences: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    row_len: int | None = None,
) -> Batch:
    """Pad sequences to the longest and ask for the next token only where it carries loss.

    Rows are ordered by length, so that the parts of a split batch can be trimmed.

    Args:
        sequences: ids of each document, shape (length,), at least two tokens.
        masks: which of these ids carry loss, same shapes. The first id of a document cannot.
        row_len: pack documents into rows of at most so many inputs (first fit, in the order given); ``None``
            gives each document its own row.
    """
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    sequences, masks = [sequences[index] for index in order], [masks[index] for index in order]
    lengths = [len(sequence) - 1 for sequence in sequences]
    rows = [[index] for index in range(len(lengths))] if row_len is None else first_fit(lengths, row_len)
    n_queries = [sum(int(masks[index][1:].sum()) for index in row) for row in rows]
    seq_len = max(sum(lengths[index] for index in row) for row in rows)
    width = max(*n_queries, 1)

    input_ids = np.full((len(rows), seq_len), PAD, dtype=np.int64)
    targets = np.full((len(rows), width), IGNORE, dtype=np.int64)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    documents = np.zeros((len(rows), seq_len), dtype=np.int64)
    for row, indices in enumerate(rows):
        start = filled = 0
        for number, index in enumerate(indices):
            stop, queries = start + lengths[index], np.flatnonzero(masks[index][1:])
            span = slice(filled, filled + len(queries))
            input_ids[row, start:stop] = sequences[index][:-1]
            documents[row, start:] = number
            targets[row, span] = sequences[index][1:][queries]
            positions[row, span] = queries + start
            start, filled = stop, span.stop
        documents[row, start:] = len(indices)  # padding is a document of its own
    packed = row_len is not None and any(len(row) > 1 for row in rows)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        targets=torch.from_numpy(targets),
        query_positions=torch.from_numpy(positions),
        documents=torch.from_numpy(documents) if packed else None,
        n_loss_tokens=sum(n_queries),
        n_tokens=sum(lengths),
        n_examples=len(sequences),
    )


def first_fit(lengths: Sequence[int], row_len: int) -> list[list[int]]:
    """Indices of documents, row by row: each goes into the first row that has room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index, length in enumerate(lengths):
        if length > row_len:
            raise ValueError(f"A document of {length} inputs does not fit into rows of {row_len}.")
        row = next((number for number, free in enumerate(room) if free >= length), None)
        if row is None:
            rows.append([])
            room.append(row_len)
            row = len(rows) - 1
        rows[row].append(index)
        room[row] -= length
    return rows
