"""Batches made ahead of time in a thread. Only a cache: the batches are the stream's own."""

from __future__ import annotations

import queue
import threading
from types import TracebackType

from nanollama.data.batch import Batch
from nanollama.data.stream import Stream

POLL_SECONDS = 0.05  # how long the thread can take to notice that nobody reads any more


class Prefetcher:
    """Yields the batches of consecutive steps in order; use as a context manager.

    Args:
        stream: where batches come from.
        start: first step.
        stop: one after the last step.
        depth: batches held ready, at least 1.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self, stream: Stream, start: int, stop: int, depth: int = 2, rank: int = 0, world_size: int = 1
    ) -> None:
        self._stream = stream
        self._steps = range(start, stop)
        self._rank, self._world_size = rank, world_size
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> Prefetcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def next(self) -> Batch:
        """The next step's batch; an error of the stream is raised here, in the reader's thread."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self) -> None:
        try:
            for step in self._steps:
                if not self._put(self._stream.batch(step, self._rank, self._world_size)):
                    return
            self._put(IndexError(f"The stream was opened for {self._steps}; there is no further batch."))
        except BaseException as error:
            self._put(error)

    def _put(self, item: Batch | BaseException) -> bool:
        """Hand an item over; False when the reader has gone."""
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False
