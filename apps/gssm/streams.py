"""Batches of a source's sequences, drawn afresh for every step.

Those that are listed are gone over in epochs by `nanollama.data.rows.RowStream`.
"""

from __future__ import annotations

from apps.gssm.source import Source
from nanollama.data.batch import Batch
from nanollama.data.rows import next_token_batch


class FreshStream:
    """Sequences that no step before has had: row ``g`` of a run is sequence number ``g``."""

    def __init__(self, source: Source, batch_size: int) -> None:
        self.source = source
        self.batch_size = batch_size

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.data.stream.Stream`; a rank draws its own rows alone."""
        first = step * self.batch_size
        return next_token_batch(self.source.draw(range(first + rank, first + self.batch_size, world_size)))
