"""Held-out examples spread over all documents, and what is measured on them by document.

Examples of one document are alike, so that intervals take documents as what was drawn, not examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

FIXED_SEED = 0
"""Of the order in which examples are taken: the same for all runs."""


def spread_rows(documents: np.ndarray, n_rows: int | None) -> np.ndarray:
    """Numbers of n_rows examples, in order, of as many documents as can be, and as many of each.

    The first of each document come first, then the second ones, in an order that is drawn once for all: the
    examples of a smaller number are among those of a larger one.

    Args:
        documents: (n,) the document of each example.
        n_rows: how many are taken; None takes all, as does more than there are.
    """
    rng = np.random.Generator(np.random.Philox(key=FIXED_SEED))
    order = rng.permutation(len(documents))
    _, index, counts = np.unique(documents[order], return_inverse=True, return_counts=True)
    places = rng.permutation(len(counts))[index]  # of documents, which have no order either
    by_document = np.argsort(index, kind="stable")
    visits = np.empty(len(order), dtype=np.int64)
    visits[by_document] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[np.lexsort((places, visits))][:n_rows])


def examples_hash(documents: np.ndarray, *arrays: np.ndarray) -> str:
    """SHA-256 of examples that are measured on: their documents (n,), their tokens, what is asked of them."""
    digest = hashlib.sha256()
    for array in (documents, *arrays):
        numbers = np.ascontiguousarray(array, dtype=np.int64)
        digest.update(f"{numbers.shape} ".encode() + numbers.tobytes())
    return digest.hexdigest()


def document_sums(values: Sequence[float], documents: np.ndarray) -> np.ndarray:
    """Sums of the values (n,) of examples, one a document, in the order of their numbers (n,)."""
    _, index = np.unique(documents, return_inverse=True)
    return np.bincount(index, np.asarray(values, dtype=float))


def document_means(values: Sequence[float], documents: np.ndarray) -> list[float]:
    """Means of the values (n,) of examples, one a document."""
    counts = document_sums(np.ones(len(documents)).tolist(), documents)
    return (document_sums(values, documents) / counts).tolist()
