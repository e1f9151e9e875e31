"""How far a model is above what can be known: its loss beside the exact floor, in total and by position.

Two numbers say the same in the long run. The *gap* is the model's loss less the floor on the same symbols.
The *KL divergence* of the model from the exact distribution of the next symbol is its mean over that symbol;
it is never below 0 and varies less. Sequences are the units of all intervals.

Shapes: n sequences, T predicted symbols of each, V symbols.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass

import numpy as np
import torch

from apps.gssm.floor import Floor
from apps.gssm.references import unigram_entropy
from apps.gssm.sampler import Sample
from apps.gssm.settings import MeasuresConfig
from apps.gssm.source import Source
from nanollama.errors import UserError
from nanollama.model.protocol import LanguageModel
from nanollama.statistics import mean_interval

logger = logging.getLogger("nanollama.gssm")  # what the run folder keeps

N_AT_ONCE = 64  # sequences that a model reads at once
MAX_EXACT = 1 << 28
"""Most probabilities of next symbols that are kept of a test set: 2 GiB, and as much for their logarithms."""
MIN_LEARNABLE_NATS = 0.05
"""Unigram entropy less floor, at the low end of its interval, below which no share of it is told."""


@dataclass(frozen=True)
class TestSet:
    """Sequences that no run learns from, and what is known of them.

    Args:
        sample: the sequences and what lies behind them.
        floor_nats: (n, T) -log p(symbol | symbols before it), exact; None where nothing exact is known.
        log_next: (n, T, V) log p(next symbol = . | symbols before it), exact; None likewise.
        unigram_nats: entropy of how often each symbol occurs: the loss of a model that looks at nothing.
    """

    __test__ = False  # pytest: not a test

    sample: Sample
    floor_nats: np.ndarray | None
    log_next: np.ndarray | None
    unigram_nats: float

    @property
    def symbols(self) -> np.ndarray:
        """(n, T + 1)."""
        return self.sample.symbols


@dataclass(frozen=True)
class Losses:
    """A model's losses on a test set, in nats.

    Args:
        loss: (n, T).
        kl: (n, T) divergence from the exact distribution of the next symbol; None where it is not known.
    """

    loss: np.ndarray
    kl: np.ndarray | None


def build_test_set(source: Source, n_sequences: int) -> TestSet:
    """The first sequences of a source's test, with their exact floor where there is one.

    Raises:
        UserError: what is known of so many sequences does not go into memory.
    """
    n_exact = n_sequences * source.n_symbols * source.graph.vocab_size
    if n_exact > MAX_EXACT:
        raise UserError(
            f"n_sequences = {n_sequences:,} sequences of {source.n_symbols:,} out of "
            f"{source.graph.vocab_size:,} symbols have {n_exact:,} exact probabilities of next symbols, and "
            f"memory takes at most {MAX_EXACT:,}: measure on fewer or shorter sequences."
        )
    sample = source.draw_test(n_sequences)
    unigram_nats = unigram_entropy(sample.symbols)
    if not source.graph.has_floor:
        logger.info(
            "There is no exact floor: context nodes draw kernels afresh for every sequence. The loss is told "
            "alone; graph.n_contexts, the size of a library of kernels, would give one."
        )
        return TestSet(sample, None, None, unigram_nats)
    exact = Floor(source.kernels).exact(sample.symbols, next_symbols=True)
    assert exact.next_symbols is not None
    with np.errstate(divide="ignore"):
        log_next = np.log(exact.next_symbols[:, 1:])
    return TestSet(sample, -exact.log_likelihood[:, 1:], log_next, unigram_nats)


@torch.no_grad()
def measure(model: LanguageModel, test: TestSet) -> Losses:
    """The losses of a model in evaluation mode."""
    n, n_symbols = test.symbols.shape
    loss = np.empty((n, n_symbols - 1))
    kl = None if test.log_next is None else np.empty_like(loss)
    for start in range(0, n, N_AT_ONCE):
        rows = slice(start, start + N_AT_ONCE)
        symbols = torch.from_numpy(test.symbols[rows])
        logits = model(symbols[:, :-1].to(model.device)).cpu().double()
        log_model = logits.log_softmax(dim=-1)
        loss[rows] = -log_model.gather(-1, symbols[:, 1:, None])[..., 0].numpy()
        if kl is not None and test.log_next is not None:
            exact = test.log_next[rows]
            difference = np.where(np.isneginf(exact), 0.0, exact - log_model.numpy()[..., : exact.shape[-1]])
            kl[rows] = (np.exp(exact) * difference).sum(axis=-1)
    return Losses(loss, kl)


def summarise(losses: Losses, test: TestSet) -> dict[str, float]:
    """Means with their 95 % intervals, then means by position, as a row of ``evals.jsonl``.

    ``kl_over_learnable`` is NaN, null in the row, where what can be learned is not clearly above 0.
    """
    found = with_interval("loss_nats", losses.loss) | {"unigram_nats": test.unigram_nats}
    if test.floor_nats is None or losses.kl is None:
        return found
    floor, gap = test.floor_nats, losses.loss - test.floor_nats
    exact, divergence = with_interval("floor_nats", floor), with_interval("kl_nats", losses.kl)
    found |= exact | with_interval("gap_nats", gap) | divergence
    # What a model that looks at nothing could still learn: sources of one entropy rate differ in it.
    # Where all sequences have one floor, as those without chance have, it has no interval.
    highest = np.fmax(exact["floor_nats"], exact["floor_nats_high"])
    is_clear = test.unigram_nats - highest > MIN_LEARNABLE_NATS
    learnable = test.unigram_nats - exact["floor_nats"]
    found["kl_over_learnable"] = divergence["kl_nats"] / learnable if is_clear else float("nan")
    for low, high in position_bins(gap.shape[1]):
        name = f"positions_{low}_{high - 1}"
        found |= with_interval(f"kl_nats/{name}", losses.kl[:, low:high])
        found[f"gap_nats/{name}"] = float(gap[:, low:high].mean())
    return found


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """The mean of (n, T) values and the ends of its interval, sequences being the units."""
    found = mean_interval(values.mean(axis=1).tolist())
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def position_bins(n_positions: int) -> list[tuple[int, int]]:
    """Positions 0, 1, 2 to 3, 4 to 7, ... up to `n_positions`, each as (first, one past the last)."""
    edges = [0]
    while edges[-1] < n_positions:
        edges.append(min(max(2 * edges[-1], 1), n_positions))
    return list(itertools.pairwise(edges))


class Examiner:
    """Measures a model while it is trained; see `nanollama.training.loop.Evaluator`.

    What is exact is computed once, when the run begins.
    """

    def __init__(self, source: Source, measures: MeasuresConfig) -> None:
        self.test = build_test_set(source, measures.n_sequences)

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """See `nanollama.training.loop.Evaluator`."""
        return summarise(measure(model, self.test), self.test)
