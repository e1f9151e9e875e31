"""Scores against maps whose score is known, and measures of models right or wrong by construction."""

from __future__ import annotations

import pytest
import torch

from apps.composition.causal import causal_effects, causal_summary
from apps.composition.circuit import build_handmade
from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.heads import (
    Circuit,
    entropy_bits,
    find_circuit,
    ideal_maps,
    pattern_index,
    score_heads,
    uniform_maps,
)
from apps.composition.measures import (
    Group,
    accuracy,
    build_groups,
    find_best_circuit,
    grammar,
    measure,
    predict,
    summarise,
)
from apps.composition.probes import probe_circuit
from apps.composition.settings import MeasuresConfig
from apps.composition.tasks import Parity
from nanollama.probe import edited_maps

PARITY = Parity(implementation="parity", problem_token=40)
CONFIG = DataConfig(tasks=(PARITY,), max_length=6, n_train=16, n_test=16)


def causal_maps(length: int, n_heads: int = 2) -> torch.Tensor:
    shape = (5, n_heads, 2 * length + 2, 2 * length + 2)
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    hidden = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def test_causal_summary_of_the_head_built_by_hand() -> None:
    """Ideal maps are its own; with uniform ones it is right where chance has it, and no more often."""
    model = build_handmade(PARITY, CONFIG.tokens, 6)
    groups = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(splits=("test",)))
    summary = summarise(list(measure(model, CONFIG, groups)), CONFIG)
    circuit = find_best_circuit(summary)
    assert circuit is not None
    found = causal_summary(model, CONFIG, groups, circuit)
    assert found["ideal_maps_loss"] == found["ideal_iteration_map_loss"] == 0.0
    longer = [group for group in groups if group.length >= 4]
    chance = (0.5**4 + 0.5**5 + 0.5**6) / 3
    right = []
    for group in longer:
        edits = {layer: uniform_maps for layer in (0, 1)}
        with edited_maps(model, edits):
            right.append(accuracy(predict(model, group), group))
    assert found["uniform_maps_over_chance"] == pytest.approx(sum(right) / len(right) - chance)


def test_causal_summary_where_all_sequences_have_one_length() -> None:
    config = CONFIG.model_copy(update={"min_length": 6})
    model = build_handmade(PARITY, config.tokens, 6)
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    found = causal_summary(model, config, groups, Circuit(1.0, (0, 0), (1, 0)))
    assert found["ideal_maps_loss"] == 0.0


def test_patterns_by_hand() -> None:
    # P x1 x2 I s1 s2: positions 0 to 5.
    queries, keys = pattern_index("eoi", 2)
    assert (queries.tolist(), keys.tolist()) == ([4, 5], [3, 3])
    queries, keys = pattern_index("iteration", 2)
    assert (queries.tolist(), keys.tolist()) == ([3, 4], [1, 2])


@pytest.mark.parametrize("pattern", ["eoi", "iteration"])
def test_scores_of_ideal_and_of_known_maps(pattern: str) -> None:
    maps = causal_maps(3)
    perfect = score_heads(ideal_maps(maps, pattern, 3), pattern, 3)
    for scores in (perfect.mean, perfect.peakiness, perfect.invariance):
        assert torch.equal(scores, torch.ones(2))
    queries, keys = pattern_index(pattern, 3)
    half = maps.clone()
    half[:, 0, queries] = ideal_maps(maps, pattern, 3)[:, 0, queries]
    half[:3, 0, queries[0]] = 0.0
    scores = score_heads(half, pattern, 3)
    assert float(scores.mean[0]) == pytest.approx(12 / 15)
    assert float(scores.peakiness[0]) == pytest.approx(12 / 15)
    assert float(scores.invariance[0]) == pytest.approx(1 - (0.4 * 0.6) ** 0.5 / 3)
    assert torch.allclose(scores.mean[1], maps[:, 1, queries, keys].mean())
    assert float(scores.any_peakiness) >= float(scores.peakiness[0])


def test_ideal_maps_leave_other_queries_alone_and_uniform_ones_see_what_was_seen() -> None:
    maps = causal_maps(3)
    assert torch.equal(ideal_maps(maps, "iteration", 3)[:, :, :4], maps[:, :, :4])
    assert torch.allclose(ideal_maps(maps, "eoi", 3).sum(-1), torch.ones(5, 2, 8))
    assert torch.allclose(uniform_maps(maps)[0, 0, 3], torch.tensor([0.25] * 4 + [0.0] * 4))
    assert float(entropy_bits(uniform_maps(maps), 3)[0]) == pytest.approx(
        sum(torch.log2(torch.tensor(n)).item() for n in (5, 6, 7, 8)) / 4
    )


def test_the_circuit_is_found_wherever_it_sits() -> None:
    eoi = [torch.tensor([0.1, 0.9]), torch.tensor([1.0, 0.2]), torch.tensor([0.0, 0.0])]
    iteration = [torch.tensor([1.0, 0.0]), torch.tensor([0.3, 0.2]), torch.tensor([0.1, 0.8])]
    found = find_circuit(eoi, iteration)
    assert found is not None
    assert (found.eoi, found.iteration, found.score) == ((0, 1), (2, 1), pytest.approx(0.8))
    assert find_circuit(eoi[:1], iteration[:1]) is None


def test_accuracy_wants_every_token_and_grammar_only_the_kind() -> None:
    tokens = torch.tensor([[40, 1, 1, 62, 1, 0, 63]] * 4)
    group = Group(0, "test", 2, tokens)
    said = torch.tensor([[1, 0, 63], [1, 1, 63], [1, 63, 63], [1, 0, 0]])
    assert accuracy(said, group) == 0.25
    assert grammar(said, CONFIG, 0) == 0.5


def test_summary_of_a_perfect_and_of_a_broken_model() -> None:
    model = build_handmade(PARITY, CONFIG.tokens, 6)
    groups = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(n_sequences=8))
    assert {group.split for group in groups} == {"train", "test"}
    assert all(len(group.tokens) <= 8 for group in groups)
    summary = summarise(list(measure(model, CONFIG, groups)), CONFIG)
    for name in ("test_accuracy", "train_accuracy", "test_accuracy_long", "test_grammar", "circuit_score"):
        assert summary[name] == pytest.approx(1.0)
    with torch.no_grad():
        model.head.weight.zero_()
    assert summarise(list(measure(model, CONFIG, groups, heads=False)), CONFIG)["test_accuracy"] == 0.0


def test_causal_tests_of_the_head_built_by_hand() -> None:
    model = build_handmade(PARITY, CONFIG.tokens, 6)
    groups = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(splits=("test",)))
    circuit = find_circuit(
        [torch.tensor([1.0]), torch.tensor([0.0])], [torch.tensor([0.0]), torch.tensor([1.0])]
    )
    effects = {effect.change: effect for effect in causal_effects(model, groups, circuit)}
    assert effects["none"].accuracy == 1.0
    for part in ("eoi head", "iteration head", "both heads"):
        assert effects[f"ideal maps: {part}"].accuracy == 1.0
        assert effects[f"uniform maps: {part}"].accuracy_long <= 0.1
    for layer in (0, 1):
        assert effects[f"zero ablation: layer {layer} head 0"].accuracy_long <= 0.1
        assert effects[f"mean ablation: layer {layer} MLP"].accuracy_long <= 0.1
    assert circuit is not None
    probes = {(result.quantity, result.place): result for result in probe_circuit(model, groups, circuit)}
    assert probes["step k", "after the MLP of blocks.0"].accuracy == 1.0
    assert probes["step k", "after the MLP of blocks.0"].control < 0.6
    assert probes["next state", "after the MLP of blocks.1"].accuracy == 1.0
    assert probes["next state", "before the MLP of blocks.1"].accuracy < 0.9, "parity is not linear"
