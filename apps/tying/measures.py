"""What is measured: loss and accuracy on held-out text, and how far the two embedding matrices are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from apps.tying.data import held_out_batches, held_out_examples, token_frequencies
from apps.tying.settings import MeasuresConfig, TyingConfig
from nanollama.data.batch import IGNORE
from nanollama.data.text.spread import document_sums, examples_hash
from nanollama.data.text.tokenised import TokenisedText
from nanollama.model.shell import Shell
from nanollama.statistics import Interval, mean_interval


class Examiner:
    """Measures a model on the same examples and masks whatever the run; see `training.loop.Evaluator`.

    ``loss_nats`` is of the tokens asked for, ``accuracy`` the mean over ``n_documents`` of that of their
    tokens, with documents as the unit of its interval; ``learned_nats`` is how far the loss lies below that
    of the frequencies of tokens.
    """

    def __init__(self, config: TyingConfig, measures: MeasuresConfig, text: TokenisedText) -> None:
        self.batches = held_out_batches(config, text, measures.split, measures.n_rows, measures.batch_size)
        _, self.documents = held_out_examples(config, text, measures.split, measures.n_rows)
        asked = [
            tensor.numpy()
            for batch in self.batches
            for tensor in (batch.input_ids, batch.targets, batch.query_positions)
            if tensor is not None
        ]
        self.measured = {measures.split: examples_hash(self.documents, *asked)}
        with np.errstate(divide="ignore"):
            self._surprise = torch.from_numpy(-np.log(token_frequencies(config, text)))

    def evaluate(self, model: nn.Module, step: int) -> dict[str, float]:
        """See the class."""
        assert isinstance(model, Shell)
        losses, surprises, right, asked = [], [], [], []
        for batch in self.batches:
            there = batch.to(model.device)
            logits = model(there.input_ids, query_positions=there.query_positions)
            wanted = there.targets != IGNORE
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), there.targets.flatten(), ignore_index=IGNORE, reduction="none"
            )
            losses.append(loss.double().sum())
            surprises.append(self._surprise[batch.targets[batch.targets != IGNORE]].sum())
            right += ((logits.argmax(-1) == there.targets) & wanted).sum(1).tolist()
            asked += wanted.sum(1).tolist()
        n_asked = sum(asked)
        loss_nats, frequency_nats = float(sum(losses)) / n_asked, float(sum(surprises)) / n_asked
        share = accuracy_interval(right, asked, self.documents)
        return {
            "loss_nats": loss_nats,
            "accuracy": share.mean,
            "accuracy_low": share.low,
            "accuracy_high": share.high,
            "n_documents": share.n,
            "learned_nats": frequency_nats - loss_nats,
            **distances(model.embedding.weight, model.head.weight),
        }


def accuracy_interval(right: Sequence[int], asked: Sequence[int], documents: np.ndarray) -> Interval:
    """The share of right answers, the mean over documents, which are the unit; one alone has no interval.

    Args:
        right: right answers in each example.
        asked: tokens asked for in each, at least one.
        documents: (n,) the document of each.
    """
    n_right, n_asked = (document_sums(counts, documents) for counts in (right, asked))
    return mean_interval((n_right / n_asked).tolist(), is_share=True)


@torch.no_grad()
def distances(first: Tensor, second: Tensor) -> dict[str, float]:
    """How two embedding matrices (V, D) differ, and how many dimensions each of them uses.

    ``cosine`` is the mean over tokens of that between both rows; ``procrustes`` the share of the second
    that no rotation and scaling of the first explains (Schoenemann, 1966, Psychometrika 31, 1-10); effective
    ranks are exponentials of the entropy of squared singular values.
    """
    first, second = first.double(), second.double()
    energies = [torch.linalg.eigvalsh(matrix.T @ matrix).clamp_min(0) for matrix in (first, second)]
    common = torch.linalg.svdvals(first.T @ second).sum()
    explained = float(common**2 / (energies[0].sum() * energies[1].sum()))
    return {
        "cosine": float(nn.functional.cosine_similarity(first, second, dim=1).mean()),
        "procrustes": max(0.0, 1.0 - explained),
        "input_effective_rank": _effective_rank(energies[0]),
        "output_effective_rank": _effective_rank(energies[1]),
        "input_norm": float(energies[0].sum().sqrt()),
        "output_norm": float(energies[1].sum().sqrt()),
    }


def _effective_rank(energies: Tensor) -> float:
    """Of a spectrum of squared singular values (D,)."""
    return float(torch.special.entr(energies / energies.sum()).sum().exp())
