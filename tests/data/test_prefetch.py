"""Prefetched batches are the stream's own, in order; errors arrive; threads end."""

from __future__ import annotations

import threading
import time

import pytest

from nanollama.data.batch import Batch
from nanollama.data.prefetch import Prefetcher
from tests.toy_training import ToyStream


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 3])
def test_batches_are_the_streams_own(depth: int) -> None:
    stream = ToyStream(4)
    with Prefetcher(stream, 5, 12, depth, rank=1, world_size=2) as batches:
        for step in range(5, 12):
            expected, found = stream.batch(step, 1, 2), batches.next()
            assert expected.input_ids.equal(found.input_ids) and expected.targets.equal(found.targets)
        with pytest.raises(IndexError, match=r"opened for range\(5, 12\)"):
            batches.next()


def test_an_error_comes_after_the_batches_before_it() -> None:
    class Broken(ToyStream):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            if step == 2:
                raise FileNotFoundError("people.jsonl")
            return super().batch(step, rank, world_size)

    with Prefetcher(Broken(4), 0, 9) as batches:
        batches.next()
        batches.next()
        with pytest.raises(FileNotFoundError, match=r"people\.jsonl"):
            batches.next()


def test_it_runs_ahead_by_its_depth_only() -> None:
    made: list[int] = []
    reached = threading.Event()

    class Counting(ToyStream):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            made.append(step)
            if step == 2:
                reached.set()
            return super().batch(step, rank, world_size)

    with Prefetcher(Counting(4), 0, 99, depth=2):
        assert reached.wait(10)
        time.sleep(0.2)
    assert made == [0, 1, 2]  # two are ready, the third waits in the thread's hand


@pytest.mark.parametrize("fails", [False, True])
def test_the_thread_ends_with_the_context(fails: bool) -> None:
    try:
        with Prefetcher(ToyStream(4), 0, 1000) as batches:
            batches.next()
            assert prefetch_threads()
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert not prefetch_threads()
