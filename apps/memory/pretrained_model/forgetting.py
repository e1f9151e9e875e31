"""How far a model has moved from the pretrained one that it was: its loss on text, and what it would write.

The pretrained model goes on from the beginnings of held-out examples, taking the likeliest token each time.
On the tokens that it writes, its distribution P of the next token is compared with the model's Q::

    KL = sum P log(P / Q)    total variation = sum |P - Q| / 2, from 0 to 1

Tokens that were added to the model have P = 0. Only completions of the pretrained model itself are used, so
the two are compared where that one is sure of itself, and not where text surprises both.

Shapes: B rows, T tokens, N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from apps.memory.settings import ForgettingConfig, MemoryConfig
from apps.memory.sources import read_text
from nanollama.data.text.spread import document_means, examples_hash, spread_rows
from nanollama.data.text.tokens import end_id
from nanollama.dialogs.generate import evaluating
from nanollama.model import HuggingFaceConfig, build_model
from nanollama.model.protocol import LanguageModel
from nanollama.statistics import mean_interval


class Forgetting:
    """Compares a model with the pretrained one; see `nanollama.training.loop.Evaluator`.

    Args:
        path: folder of the pretrained model, or its name on the hub; read at the first evaluation.
        rows: (n, T) token ids of held-out text.
        documents: (n,) the document of each.
        end: the token after which a completion is over.
        config: how much is compared.
    """

    def __init__(
        self, path: str, rows: np.ndarray, documents: np.ndarray, end: int, config: ForgettingConfig
    ) -> None:
        self._path = path
        chosen = spread_rows(documents, config.n_rows)
        self._rows, self._documents = torch.from_numpy(rows[chosen].astype(np.int64)), documents[chosen]
        self.measured = {config.split: examples_hash(self._documents, rows[chosen])}
        self._end = end
        self._config = config
        self._base: LanguageModel | None = None
        self._completions = self._is_written = torch.zeros(0)
        self._base_losses: list[float] = []

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """Measures with 95 % intervals, documents as the unit: means over them of means over their examples.

        Returns:
            ``kl_base_nats`` and ``total_variation_base``, of an example the mean over the tokens of its
            completion; ``text_loss_nats``, ``text_loss_base_nats`` and ``text_loss_change_nats``, a token;
            ``n_text_documents``. One document has no interval.
        """
        base = self._read_base(model)
        divergences: list[float] = []
        variations: list[float] = []
        with evaluating(model):
            for ids, is_written in self._parts(self._completions, self._is_written):
                expected, found = self._log_shares(base, ids), self._log_shares(model, ids)
                counts = is_written.sum(dim=1)
                divergence, variation = distances(expected, found)
                divergences += ((divergence * is_written).sum(dim=1) / counts).tolist()
                variations += ((variation * is_written).sum(dim=1) / counts).tolist()
            losses = self._text_losses(model)
        changes = [mine - first for mine, first in zip(losses, self._base_losses, strict=True)]
        measures = {
            "text_loss_nats": float(np.mean(document_means(losses, self._documents))),
            "text_loss_base_nats": float(np.mean(document_means(self._base_losses, self._documents))),
            "n_text_documents": len(np.unique(self._documents)),
        }
        for name, values, is_share in (
            ("text_loss_change_nats", changes, False),
            ("kl_base_nats", divergences, False),
            ("total_variation_base", variations, True),
        ):
            mean, low, high, _ = mean_interval(document_means(values, self._documents), is_share)
            measures |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        return measures

    def _read_base(self, model: LanguageModel) -> LanguageModel:
        """The pretrained model, where the other is; at the first call, what it writes and its losses."""
        if self._base is None:
            section = HuggingFaceConfig(
                implementation="hugging_face", path=self._path, vocab_size=1, max_seq_len=model.max_seq_len
            )
            base = build_model(section, torch.Generator().manual_seed(0)).to(model.device).eval()
            self._base = base
            with evaluating(base):
                prompts = self._rows[:, : self._config.prompt_len]
                parts = [complete(base, part, self._config.n_new) for (part,) in self._parts(prompts)]
                self._completions = torch.cat(parts)
                written = self._completions[:, self._config.prompt_len :]
                ended = (written == self._end).cumsum(dim=1) - (written == self._end).long()
                self._is_written = ended == 0  # up to the token that ends it
                self._base_losses = self._text_losses(base)
        return self._base

    def _parts(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Some rows of each at a time, where the pretrained model is."""
        assert self._base is not None
        for part in zip(*(tensor.split(self._config.batch_size) for tensor in tensors), strict=True):
            yield tuple(tensor.to(self._base.device) for tensor in part)

    def _log_shares(self, model: LanguageModel, ids: Tensor) -> Tensor:
        """(B, N, V) log probabilities of the tokens behind the prompt."""
        read = ids[:, :-1]
        asked = torch.arange(self._config.prompt_len - 1, read.shape[1], device=ids.device)
        return model(read, query_positions=asked.expand(len(ids), -1)).log_softmax(dim=-1)

    def _text_losses(self, model: LanguageModel) -> list[float]:
        """Of each example, in nats a token."""
        losses: list[float] = []
        for (ids,) in self._parts(self._rows):
            logits = model(ids[:, :-1])
            each = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            losses += each.view(len(ids), -1).mean(dim=1).tolist()
        return losses


def build_forgetting(config: MemoryConfig) -> Forgetting | None:
    """The evaluator of a run; None where there is no text.

    Raises:
        UserError: the text or the tokenizer cannot be had.
    """
    if config.text is None:
        return None
    assert config.pretrained is not None
    text = read_text(config)
    split = config.forgetting.split
    rows, documents = text.rows(split), text.documents(split)
    return Forgetting(config.pretrained, rows, documents, end_id(text.tokenizer), config.forgetting)


def complete(model: LanguageModel, prompts: Tensor, n_new: int) -> Tensor:
    """Prompts (B, T) with the likeliest tokens after them, (B, T + N)."""
    n_rows, n_read = prompts.shape
    state = model.make_state(n_rows, n_read + n_new)
    ids, given = prompts, prompts
    for _ in range(n_new):
        last = torch.full((n_rows, 1), given.shape[1] - 1, device=ids.device)
        logits = model(given, query_positions=last, state=state)[:, 0]
        state.advance(torch.full((n_rows,), given.shape[1], device=ids.device), ids.shape[1])
        given = logits.argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, given], dim=1)
    return ids


def distances(expected: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """KL divergence in nats and total variation, (B, N), of log probabilities (B, N, V) from expected ones.

    ``found`` may have further tokens, which are not expected at all.
    """
    shares, n_tokens = expected.exp(), expected.shape[-1]
    shared, further = found[..., :n_tokens], found[..., n_tokens:]
    divergence = (shares * (expected - shared)).sum(dim=-1)
    variation = (shares - shared.exp()).abs().sum(dim=-1) + further.exp().sum(dim=-1)
    return divergence, variation / 2
