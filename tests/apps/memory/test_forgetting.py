"""Distances to the pretrained model, by brute force; what is compared; nothing is forgotten by itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.memory.pretrained_model.forgetting import Forgetting, complete, distances
from apps.memory.settings import ForgettingConfig
from nanollama.model import HuggingFaceConfig, build_model
from nanollama.model.protocol import LanguageModel

pytest.importorskip("transformers")

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
    measures = Forgetting(str(base), rows(model.vocab_size), 0, CONFIG).evaluate(model, 0)
    for name in ("kl_base_nats", "total_variation_base", "text_loss_change_nats"):
        assert measures[name] == pytest.approx(0, abs=1e-6), name
    assert measures["text_loss_nats"] == measures["text_loss_base_nats"]


def test_what_stands_behind_the_end_of_a_completion_does_not_count(base: Path) -> None:
    """Each completion counts as much as another, however soon it ends: brute force over a changed model."""
    model, plain = model_of(base), model_of(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        some = rows(plain.vocab_size)
        ids = complete(plain, torch.from_numpy(some[:5, :4].astype(np.int64)), 6)
        end = int(ids[0, 6])  # so that the first completion ends with its third token, or before
        shares = [one(ids[:, :-1])[:, 3:].double().softmax(dim=-1) for one in (plain, model)]
    means = []
    for row in range(5):
        written = ids[row, 4:].tolist()
        n_written = written.index(end) + 1 if end in written else 6
        differences = (shares[0][row] - shares[1][row]).abs().sum(dim=-1) / 2
        means.append(float(differences[:n_written].mean()))
    assert 0 < np.mean(means) < 1
    measures = Forgetting(str(base), some, end, CONFIG).evaluate(model, 0)
    assert measures["total_variation_base"] == pytest.approx(np.mean(means), rel=1e-4)
