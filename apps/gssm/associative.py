"""Multi-query associative recall: pairs of a key and a value, then keys whose values are asked for.

After arXiv 2312.04927 (Zoology, section 3). Shown with 2 pairs (there are at least 4), 2 queries, 8
tokens and a vocabulary of 9, key 3 standing with value 8 and key 1 with value 6::

    position   0  1  2  3  4  5  6  7
    token      3  8  1  6  0  1  0  3
    asked                     6     8

Token 0 fills, keys are 1 to K and values K + 1 to 2 K. Keys of a sequence differ; queries are different keys
of it, at positions drawn uniformly behind the pairs (Zoology draws their distances by a power law). A model
is asked at the queries alone, and the answers are never told it there.

Sequence i of a seed is the same in any batch and on any rank. The ids of the pairs add up to an even number
where they are learned from and to an odd one in the test, so that no sequence is in both. Where pairs are few
that alone tells something of the values, the opposite in the test: fewer than four are refused.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from apps.gssm.data_config import FIRST_TEST
from apps.gssm.recall_config import RecallDataConfig
from nanollama.data.batch import Batch
from nanollama.model.protocol import LanguageModel
from nanollama.seeds import named_seed
from nanollama.statistics import share_interval

N_AT_ONCE = 256  # sequences that a model reads at once
N_WORDS = 4  # numbers that a value of the counter of Philox gives


class Sequences(NamedTuple):
    """n sequences.

    Args:
        tokens: (n, seq_len) int64.
        positions: (n, n_queries) int64, of the queries, ascending.
        answers: (n, n_queries) int64, the value of each key that is asked for.
    """

    tokens: np.ndarray
    positions: np.ndarray
    answers: np.ndarray


def draw(data: RecallDataConfig, numbers: range) -> Sequences:
    """The sequences of these numbers: a pure function of (data.sequence_seed, number).

    Args:
        data: says what they look like.
        numbers: such as ``range(rank, 128, world_size)``; those of the test count from `FIRST_TEST`.
    """
    n, n_pairs, n_keys, n_behind = len(numbers), data.n_pairs, data.n_keys, data.seq_len - 2 * data.n_pairs
    drawn = _uniform(data, numbers, n_keys + n_pairs + n_pairs + n_behind)
    of_keys, of_values, of_queries, of_slots = np.split(drawn, np.cumsum([n_keys, n_pairs, n_pairs]), axis=1)
    keys = 1 + of_keys.argsort(axis=1)[:, :n_pairs]
    values = 1 + n_keys + (of_values * n_keys).astype(np.int64)
    # The last value has the parity that is wanted, each such value as often as any other.
    wanted = (keys.sum(axis=1) + values[:, :-1].sum(axis=1) + int(numbers[0] >= FIRST_TEST)) % 2
    first = 1 + n_keys + (wanted + 1 + n_keys) % 2
    n_such = (2 * n_keys - first) // 2 + 1
    values[:, -1] = first + 2 * (of_values[:, -1] * n_such).astype(np.int64)

    asked = of_queries.argsort(axis=1)[:, : data.n_queries]
    positions = 2 * n_pairs + np.sort(of_slots.argsort(axis=1)[:, : data.n_queries], axis=1)
    tokens = np.zeros((n, data.seq_len), dtype=np.int64)
    tokens[:, 0 : 2 * n_pairs : 2], tokens[:, 1 : 2 * n_pairs : 2] = keys, values
    np.put_along_axis(tokens, positions, np.take_along_axis(keys, asked, axis=1), axis=1)
    return Sequences(tokens, positions, np.take_along_axis(values, asked, axis=1))


def _uniform(data: RecallDataConfig, numbers: range, n_each: int) -> np.ndarray:
    """(n, n_each) numbers from 0 up to 1: those of a sequence have a place of their own in one stream."""
    n_each_drawn = n_each + -n_each % N_WORDS
    span = range(numbers[0], numbers[-1] + 1)
    stream = np.random.Philox(key=named_seed(data.sequence_seed, "recall"))
    stream.advance(span.start * (n_each_drawn // N_WORDS))
    words = stream.random_raw(len(span) * n_each_drawn).reshape(len(span), n_each_drawn)
    return (words[:: numbers.step, :n_each] >> np.uint64(11)) * 2.0**-53


def sequences_sha256(data: RecallDataConfig) -> str:
    """Of the first sequences, which stand for all."""
    return hashlib.sha256(draw(data, range(8)).tokens.tobytes()).hexdigest()


class RecallStream:
    """Sequences that no step before has had: row ``g`` of a run is sequence number ``g``."""

    def __init__(self, data: RecallDataConfig, batch_size: int) -> None:
        self.data = data
        self.batch_size = batch_size

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.data.stream.Stream`."""
        first = step * self.batch_size
        rows = range(first + rank, first + self.batch_size, world_size)
        tokens, positions, answers = map(torch.from_numpy, draw(self.data, rows))
        return Batch(
            input_ids=tokens,
            targets=answers,
            query_positions=positions,
            documents=None,
            n_loss_tokens=answers.numel(),
            n_tokens=tokens.numel(),
            n_examples=len(tokens),
        )


class RecallExaminer:
    """Share of queries answered rightly in fresh sequences; see `nanollama.training.loop.Evaluator`.

    An answer is the most likely of all tokens. Sequences are the units of the interval.
    """

    def __init__(self, data: RecallDataConfig, n_sequences: int) -> None:
        self.test = draw(data, range(FIRST_TEST, FIRST_TEST + n_sequences))

    @torch.no_grad()
    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """See `nanollama.training.loop.Evaluator`."""
        n_right: list[int] = []
        loss_nats = 0.0
        for start in range(0, len(self.test.tokens), N_AT_ONCE):
            tokens, positions, answers = (
                torch.from_numpy(part[start : start + N_AT_ONCE]).to(model.device) for part in self.test
            )
            log_p = model(tokens, query_positions=positions).double().log_softmax(dim=-1)
            loss_nats -= float(log_p.gather(-1, answers[..., None]).sum())
            n_right += (log_p.argmax(dim=-1) == answers).sum(dim=1).tolist()
        n_queries = self.test.answers.shape[1]
        found = share_interval(n_right, [n_queries] * len(n_right))
        return {
            "recall": found.mean,
            "recall_low": found.low,
            "recall_high": found.high,
            "loss_nats": loss_nats / self.test.answers.size,
        }
