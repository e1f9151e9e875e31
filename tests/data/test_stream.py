"""A batch is a pure function of (seed, step, rank); an epoch visits every example once; shares are exact."""

from collections import Counter

import numpy as np
import pytest
import torch

from nanollama.data.stream import Batching, DocumentStream, EpochOrder


class Numbers:
    """Documents that say who they are: source and index, with a length that depends on the index."""

    def __init__(self, source: int, n_documents: int) -> None:
        self.source = source
        self.n_documents = n_documents

    def __len__(self) -> int:
        return self.n_documents

    def lengths(self) -> np.ndarray:
        return 3 + np.arange(self.n_documents) * 7 % 11

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.full(self.lengths()[index], 1000 * self.source + index)
        mask = np.ones(len(ids), dtype=bool)
        mask[0] = False
        return ids, mask


def stream(
    seed: int = 0, batching: Batching = "trimmed", n: tuple[int, ...] = (50,), **options: object
) -> DocumentStream:
    sources = [Numbers(number, size) for number, size in enumerate(n)]
    return DocumentStream(sources, batch_size=8, seed=seed, batching=batching, **options)  # type: ignore[arg-type]


def examples(made: DocumentStream, steps: range, rank: int = 0, world_size: int = 1) -> list[tuple[int, int]]:
    return [row for step in steps for row in made.rows(step)[rank::world_size]]


@pytest.mark.parametrize("batching", ["trimmed", "bucketed", "packed"])
def test_a_step_has_one_batch_whoever_asks_and_whenever(batching: Batching) -> None:
    first, second = stream(batching=batching), stream(batching=batching)
    second.batch(40)
    for step in (17, 3, 17):
        one, other = first.batch(step), second.batch(step)
        assert torch.equal(one.input_ids, other.input_ids) and torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("batching", ["trimmed", "bucketed"])
def test_other_seeds_and_other_steps_give_other_batches(batching: Batching) -> None:
    made = stream(batching=batching)
    assert made.rows(0) != made.rows(1)
    assert made.rows(0) != stream(seed=1, batching=batching).rows(0)


@pytest.mark.parametrize("batching", ["trimmed", "bucketed"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_out_the_global_batch(batching: Batching, world_size: int) -> None:
    made = stream(batching=batching)
    shares = [examples(made, range(5), rank, world_size) for rank in range(world_size)]
    assert sorted(row for share in shares for row in share) == sorted(examples(made, range(5)))
    n_tokens = sum(made.batch(4, rank, world_size).n_tokens for rank in range(world_size))
    assert n_tokens == made.batch(4).n_tokens


def test_every_epoch_visits_every_example_once_in_a_new_order() -> None:
    order = EpochOrder(13, seed=5)
    epochs = [order.examples(13 * epoch, 13 * (epoch + 1)).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert order.examples(10, 30).tolist() == [*epochs[0][10:], *epochs[1], *epochs[2][:4]]


def test_a_bucketed_stream_visits_the_same_examples_in_batches_of_like_length() -> None:
    plain, bucketed = stream(n=(128,)), stream(n=(128,), batching="bucketed")
    assert sorted(examples(bucketed, range(16))) == sorted(examples(plain, range(16)))
    lengths = Numbers(0, 128).lengths()
    spread = [np.ptp([lengths[index] for _, index in bucketed.rows(step)]) for step in range(16)]
    assert max(spread) <= 2
    assert [bucketed.rows(step) for step in range(16)] != sorted(bucketed.rows(step) for step in range(16))


def test_sources_have_their_share_of_every_stretch_of_rows() -> None:
    made = stream(n=(50, 20, 10), weights=[5.0, 2.0, 1.0])
    for first, last in ((0, 1), (3, 9), (0, 40)):
        counts = Counter(source for source, _ in examples(made, range(first, last)))
        for source, share in enumerate((5 / 8, 2 / 8, 1 / 8)):
            assert abs(counts[source] - share * 8 * (last - first)) < 2
    seen = Counter(examples(made, range(10)))  # one epoch of the first source
    assert all(seen[0, index] == 1 for index in range(50))


@pytest.mark.parametrize("weights", [(5.0, 1.0, 4.0), (10.0, 0.1, 0.5, 1.0, 0.1), (1.0,) * 7])
@pytest.mark.parametrize("batching", ["trimmed", "bucketed"])
def test_a_rare_source_among_several_leaves_batches_whole(
    batching: Batching, weights: tuple[float, ...]
) -> None:
    sources = [Numbers(number, 10_000) for number in range(len(weights))]
    made = DocumentStream(sources, batch_size=1, seed=0, weights=weights, batching=batching)
    rows = examples(made, range(1600))
    assert [len(made.rows(step)) for step in range(1600)] == [1] * 1600
    assert len(set(rows)) == 1600, "no epoch is over, so none is seen twice"
    counts = Counter(source for source, _ in rows)
    for source, weight in enumerate(weights):
        assert abs(counts[source] - weight / sum(weights) * 1600) < len(weights)


def test_sources_of_one_size_are_visited_in_orders_of_their_own() -> None:
    rows = examples(stream(n=(64, 64)), range(16))
    first, second = ([index for source, index in rows if source == number] for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(64)) and first != second


def test_pools_of_a_bucketed_stream_come_in_orders_of_their_own() -> None:
    def ranks(seed: int, pool: int) -> list[int]:
        """Where each batch stands among those of its pool, by length."""
        made = stream(seed=seed, n=(128,), batching="bucketed")
        lengths = Numbers(0, 128).lengths()
        means = [np.mean([lengths[index] for _, index in made.rows(16 * pool + step)]) for step in range(16)]
        return np.argsort(means).tolist()

    assert len({tuple(ranks(seed, pool)) for seed in (0, 1) for pool in (0, 1)}) == 4


def test_rows_have_the_length_that_is_asked_for() -> None:
    longest = int(Numbers(0, 50).lengths().max()) - 1
    for row_len, n_inputs in ((None, longest), (17, 17)):
        batches = [stream(batching="packed", row_len=row_len).batch(step) for step in range(20)]
        assert max(batch.input_ids.shape[1] for batch in batches) == n_inputs


def test_weights_must_fit_the_sources() -> None:
    with pytest.raises(ValueError, match="one positive weight for each of 2 sources"):
        stream(n=(5, 5), weights=[1.0])
    with pytest.raises(ValueError, match="one positive weight"):
        stream(weights=[0.0])
    with pytest.raises(ValueError, match="at least one example"):
        EpochOrder(0, seed=0)
