"""Distances to the pretrained model, by brute force; what is compared; nothing is forgotten by itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.memory.pretrained_model.forgetting import Forgetting, complete, distances
from apps.memory.settings import ForgettingConfig
from nanollama.data.text.spread import document_means, spread_rows
from nanollama.model import HuggingFaceConfig, build_model
from nanollama.model.protocol import LanguageModel
from nanollama.statistics import mean_interval

pytest.importorskip("transformers")

DOCUMENTS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
CONFIG = ForgettingConfig(n_rows=5, prompt_len=4, n_new=6, batch_size=2)


def model_of(base: Path) -> LanguageModel:
    config = HuggingFaceConfig(implementation="hugging_face", path=str(base), vocab_size=1, max_seq_len=64)
    return build_model(config, torch.Generator().manual_seed(0)).eval()


def rows(vocab_size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, vocab_size, (8, 16)).astype(np.uint16)


def test_distances_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    expected = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).log_softmax(dim=-1)
    found = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64).log_softmax(dim=-1)
    divergence, variation = distances(expected, found)
    for row in range(2):
        for position in range(3):
            p = [*expected[row, position].exp().tolist(), 0.0, 0.0]
            q = found[row, position].exp().tolist()
            kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)
            tv = sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
            assert float(divergence[row, position]) == pytest.approx(kl)
            assert float(variation[row, position]) == pytest.approx(tv)


def test_completions_are_the_likeliest_tokens(base: Path) -> None:
    model = model_of(base)
    prompts = torch.from_numpy(rows(model.vocab_size)[:3, :4].astype(np.int64))
    with torch.no_grad():
        found = complete(model, prompts, 6)
        ids = prompts
        for _ in range(6):
            ids = torch.cat([ids, model(ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(found, ids)


def test_a_model_that_has_not_changed_has_forgotten_nothing(base: Path) -> None:
    model = model_of(base)
    measures = Forgetting(str(base), rows(model.vocab_size), DOCUMENTS, 0, CONFIG).evaluate(model, 0)
    for name in ("kl_base_nats", "total_variation_base", "text_loss_change_nats"):
        assert measures[name] == pytest.approx(0, abs=1e-6), name
    assert measures["text_loss_nats"] == measures["text_loss_base_nats"]
    assert measures["n_text_documents"] == 3


def test_what_is_compared_on_is_told(base: Path) -> None:
    def told(rows: np.ndarray, documents: np.ndarray = DOCUMENTS) -> str:
        return Forgetting(str(base), rows, documents, 0, CONFIG).measured["valid"]

    some = rows(100)
    other = some.copy()
    other[spread_rows(DOCUMENTS, 5)[0], 0] += 1
    left_out = some.copy()
    left_out[np.setdiff1d(np.arange(8), spread_rows(DOCUMENTS, 5))] += 1
    assert told(some) == told(some.copy()) == told(left_out)
    assert len({told(some), told(other), told(some, DOCUMENTS + 1)}) == 3


def test_one_document_has_no_interval(base: Path) -> None:
    model, changed = model_of(base), model_of(base)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    some = rows(model.vocab_size)
    measures = Forgetting(str(base), some, np.zeros(8, int), 0, CONFIG).evaluate(changed, 0)
    assert measures["n_text_documents"] == 1 and measures["total_variation_base"] > 0
    for name in ("text_loss_change_nats", "kl_base_nats", "total_variation_base"):
        assert math.isnan(measures[f"{name}_low"]) and math.isnan(measures[f"{name}_high"])


def test_what_stands_behind_the_end_of_a_completion_does_not_count(base: Path) -> None:
    """Each completion of a document counts as much as another, however soon it ends: by brute force."""
    model, plain = model_of(base), model_of(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        some = rows(plain.vocab_size)
        chosen = spread_rows(DOCUMENTS, 5)
        ids = complete(plain, torch.from_numpy(some[chosen, :4].astype(np.int64)), 6)
        end = int(ids[0, 6])  # so that the first completion ends with its third token, or before
        logits = [one(ids[:, :-1])[:, 3:].double() for one in (plain, model)]
        (p, q), (log_p, log_q) = ([f(x, dim=-1) for x in logits] for f in (torch.softmax, torch.log_softmax))
        each = {
            "kl_base_nats": (p * (log_p - log_q)).sum(dim=-1),
            "total_variation_base": (p - q).abs().sum(dim=-1) / 2,
        }
    means: dict[str, list[float]] = {name: [] for name in each}
    for row in range(5):
        written = ids[row, 4:].tolist()
        n_written = written.index(end) + 1 if end in written else 6
        for name, differences in each.items():
            means[name].append(float(differences[row, :n_written].mean()))
    assert 0 < np.mean(means["total_variation_base"]) < 1
    measures = Forgetting(str(base), some, DOCUMENTS, end, CONFIG).evaluate(model, 0)
    for name, values in means.items():
        of_documents = document_means(values, DOCUMENTS[chosen])
        found = mean_interval(of_documents, is_share=name == "total_variation_base")
        for end_of, value in zip(("", "_low", "_high"), found[:3], strict=True):
            assert measures[f"{name}{end_of}"] == pytest.approx(value, rel=1e-4)
