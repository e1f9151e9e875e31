"""Scores against maps whose score is known, and measures of models right or wrong by construction."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from apps.composition import causal
from apps.composition.causal import causal_effects, causal_summary
from apps.composition.circuit import build_handmade
from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.examiner import Examiner
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
    Row,
    accuracy,
    build_groups,
    find_best_circuit,
    grammar,
    measure,
    predict,
    summarise,
)
from apps.composition.probes import probe_circuit
from apps.composition.settings import MeasuresConfig, Split
from apps.composition.tasks import Parity, Polynomial
from nanollama.measures import say_measures
from nanollama.model import ModelConfig, build_model
from nanollama.model.probe import EditMaps, ablated_heads, ablated_mlps, edited_maps
from nanollama.model.protocol import LanguageModel

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
    for attention, share in ((0.51, 1.0), (0.5, 0.0)):
        assert float(score_heads(torch.full_like(maps, attention), pattern, 3).peakiness[1]) == share
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


def test_a_terminal_shows_what_the_study_is_about() -> None:
    model = build_handmade(PARITY, CONFIG.tokens, 6)
    groups = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(n_sequences=8))
    shown = say_measures(summarise(list(measure(model, CONFIG, groups)), CONFIG))
    names = [line.partition("  ")[0] for line in shown]
    assert names[:2] == ["test accuracy", "train accuracy"]
    said = "iteration peakiness, iteration layer, iteration head, eoi peakiness"
    assert ", ".join(names[2:6]) == said


def test_summary_of_a_perfect_and_of_a_broken_model() -> None:
    model = build_handmade(PARITY, CONFIG.tokens, 6)
    groups = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(n_sequences=8))
    assert {group.split for group in groups} == {"train", "test"}
    assert all(len(group.tokens) <= 8 for group in groups)
    summary = summarise(list(measure(model, CONFIG, groups)), CONFIG)
    for name in ("test_accuracy", "train_accuracy", "test_accuracy_long", "test_grammar", "circuit_score"):
        assert summary[name] == pytest.approx(1.0)
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
    assert summarise(list(measure(model, CONFIG, groups, heads=False)), CONFIG)["test_accuracy"] == 0.0


def head_rows(split: Split, length: int, tables: dict[str, list[list[float]]]) -> list[Row]:
    """Rows of all heads, from the values of each measure by layer and head."""
    return [
        Row(0, split, length, name, value, layer, head)
        for name, table in tables.items()
        for layer, values in enumerate(table)
        for head, value in enumerate(values)
    ]


def head_tables(
    eoi: list[list[float]], iteration: list[list[float]], more: float
) -> dict[str, list[list[float]]]:
    """The means, and for the other scores values that tell measure, layer and head."""
    others = (
        "eoi_peakiness",
        "eoi_invariance",
        "iteration_peakiness",
        "iteration_invariance",
        "entropy_bits",
    )
    return {"eoi_mean": eoi, "iteration_mean": iteration} | {
        name: [[more + number + 0.1 * layer + 0.01 * head for head in (0, 1)] for layer in range(len(eoi))]
        for number, name in enumerate(others)
    }


def test_summary_is_of_the_best_heads_on_the_test_and_of_lengths_above_the_middle() -> None:
    config = CONFIG.model_copy(update={"min_length": 2})  # 2 to 6: the middle is 4
    rows = [
        Row(0, split, length, measure, value)
        for split, measure, values in (
            ("test", "accuracy", (1.0, 0.5, 0.0)),
            ("test", "grammar", (1.0, 0.75, 0.5)),
            ("train", "accuracy", (1.0, 1.0, 0.25)),
            ("train", "grammar", (1.0, 1.0, 1.0)),
        )
        for length, value in zip((2, 4, 6), values, strict=True)
    ]
    for length, more in ((4, 0.0), (6, 10.0)):
        tables = head_tables([[0.2, 0.9], [0.1, 0.3]], [[1.0, 0.1], [0.8, 0.4]], more)
        rows += head_rows("test", length, tables)
        rows += head_rows(
            "train", length, head_tables([[9.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 9.0]], 0.0)
        )
    summary = summarise(rows, config)
    assert (summary["test_accuracy"], summary["test_accuracy_long"]) == (0.5, 0.0)
    assert (summary["train_accuracy"], summary["train_accuracy_long"]) == (0.75, 0.25)
    assert summary["test_grammar"] == 0.75 and summary["test/accuracy/length_4"] == 0.5
    assert find_best_circuit(summary) == Circuit(pytest.approx(0.8), (0, 1), (1, 0))
    # A number for the measure, a tenth for the layer, a hundredth for the head; 5 more on average.
    expected = {
        "eoi_peakiness": 5.01,
        "eoi_invariance": 6.01,
        "iteration_peakiness": 7.1,
        "iteration_invariance": 8.1,
        "eoi_entropy_bits": 9.01,
        "iteration_entropy_bits": 9.1,
        "eoi_peakiness_long": 10.01,
        "iteration_peakiness_long": 12.1,
        "eoi_mean": 0.9,
        "iteration_mean": 0.8,
        "test/layer_1/head_0/iteration_peakiness/length_6": 12.1,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_summary_of_one_layer_is_of_the_head_that_iterates_most() -> None:
    rows = head_rows("test", 6, head_tables([[0.9, 0.1]], [[0.2, 0.7]], 0.0))
    summary = summarise([Row(0, "test", 6, "accuracy", 1.0), *rows], CONFIG)
    assert summary["iteration_peakiness"] == pytest.approx(2.01)
    assert find_best_circuit(summary) is None


def test_measures_of_two_tasks_have_two_names_and_values_of_their_own() -> None:
    polynomial = Polynomial(implementation="polynomial", problem_token=41, modulus=5)
    config = DataConfig(tasks=(PARITY, polynomial), max_length=4, n_train=24, n_test=8)
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    assert (0, 1) not in {(group.task, group.length) for group in groups}, "no sequence is left for the test"
    summary = summarise(list(measure(build_handmade(PARITY, config.tokens, 4), config, groups)), config)
    assert summary["parity_0/test/accuracy/length_2"] == 1.0 > summary["polynomial_1/test/accuracy/length_4"]
    assert 0.0 < summary["test_accuracy"] < 1.0
    end = config.tokens.end_of_sequence
    for task, n_values in ((0, 2), (1, 5)):
        said = torch.tensor([[n_values - 1, 0, end], [n_values, 0, end]]) + config.tokens.first_value
        said[:, -1] = end
        assert grammar(said, config, task) == 0.5


def test_without_chain_of_thought_no_head_is_measured() -> None:
    config = CONFIG.model_copy(update={"chain_of_thought": False, "max_length": 2})
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    assert any(group.is_iteration for group in groups), "one input, one output"
    rows = list(measure(build_handmade(PARITY, config.tokens, 2), config, groups))
    assert {row.measure for row in rows} == {"accuracy", "grammar"}


def test_causal_tests_of_the_head_built_by_hand() -> None:
    model = build_handmade(PARITY, CONFIG.tokens, 6)
    groups = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(splits=("test",)))
    circuit = find_circuit(
        [torch.tensor([1.0]), torch.tensor([0.0])], [torch.tensor([0.0]), torch.tensor([1.0])]
    )
    effects = {effect.change: effect for effect in causal_effects(model, CONFIG, groups, circuit)}
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
    assert probes["step k", "after the MLP of blocks.0"].control < 0.3, "one in seven, and a few pairs"
    assert probes["next state", "after the MLP of blocks.1"].accuracy == 1.0
    assert probes["next state", "before the MLP of blocks.1"].accuracy < 0.9, "parity is not linear"


def test_causal_numbers_of_a_circuit_that_is_named_the_wrong_way_round() -> None:
    """Losses differ from map to map and from length to length, so each number shows what it is made of."""
    config = DataConfig(tasks=(PARITY,), min_length=2, max_length=6, n_train=8, n_test=16)
    model = build_handmade(PARITY, config.tokens, 6)
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    circuit = Circuit(1.0, eoi=(1, 0), iteration=(0, 0))
    right = []
    for group in groups:
        with edited_maps(model, {0: partial(ideal_maps, pattern="iteration", length=group.length)}):
            right.append(accuracy(predict(model, group), group))
    assert [group.length for group in groups] == [2, 3, 4, 5, 6] and right[2] < right[3], "the middle is 4"
    effects = {effect.change: effect for effect in causal_effects(model, config, groups, circuit)}
    effect = effects["ideal maps: iteration head"]
    assert effect.accuracy == pytest.approx(sum(right) / 5)
    assert effect.accuracy_long == pytest.approx(sum(right[3:]) / 2)
    short = causal_effects(model, config, groups[2:], circuit)
    alike = next(one for one in short if one.change == "ideal maps: iteration head")
    assert alike.accuracy_long == pytest.approx(effect.accuracy_long), "lengths of the data, not of the test"
    found = causal_summary(model, config, groups, circuit)
    assert found["ideal_maps_loss"] == 1.0
    assert found["ideal_iteration_map_loss"] == pytest.approx(1.0 - sum(right[3:]) / 2)


def test_chance_is_that_of_each_task() -> None:
    polynomial = Polynomial(implementation="polynomial", problem_token=41, modulus=5)
    config = DataConfig(tasks=(PARITY, polynomial), min_length=3, max_length=4, n_train=8, n_test=8)
    model = build_handmade(PARITY, config.tokens, 4)
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()  # never right
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    found = causal_summary(model, config, groups, Circuit(1.0, (0, 0), (1, 0)))
    assert found["uniform_maps_over_chance"] == pytest.approx(-(2.0**-4 + 5.0**-4) / 2)


def in_head(head: int, edit: EditMaps) -> EditMaps:
    """The edit, in one head alone."""

    def edited(maps: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [edit(maps)[:, i] if i == head else maps[:, i] for i in range(maps.shape[1])], dim=1
        )

    return edited


@torch.no_grad()
def test_each_causal_test_changes_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ModelConfig(vocab_size=64, d_model=16, n_layers=2, n_heads=2, init_std=0.5)
    model = build_model(shape, torch.Generator().manual_seed(0)).eval()
    group = build_groups(CONFIG, build_dataset(CONFIG), MeasuresConfig(splits=("test",)))[-1]
    seen: list[torch.Tensor] = []

    def record(model: LanguageModel, group: Group) -> torch.Tensor:
        seen.append(model(group.tokens[:, :-1]))
        return predict(model, group)

    monkeypatch.setattr(causal, "predict", record)
    effects = causal_effects(model, CONFIG, [group], Circuit(1.0, eoi=(0, 1), iteration=(1, 0)))
    logits = dict(zip([effect.change for effect in effects], seen, strict=True))
    eoi = in_head(1, partial(ideal_maps, pattern="eoi", length=6))
    iteration = in_head(0, partial(ideal_maps, pattern="iteration", length=6))
    expected = {
        "none": nullcontext(),
        "ideal maps: eoi head": edited_maps(model, {0: eoi}),
        "ideal maps: iteration head": edited_maps(model, {1: iteration}),
        "ideal maps: both heads": edited_maps(model, {0: eoi, 1: iteration}),
        "uniform maps: eoi head": edited_maps(model, {0: in_head(1, uniform_maps)}),
        "uniform maps: iteration head": edited_maps(model, {1: in_head(0, uniform_maps)}),
        "uniform maps: both heads": edited_maps(
            model, {0: in_head(1, uniform_maps), 1: in_head(0, uniform_maps)}
        ),
        "uniform maps: every head": edited_maps(model, {0: uniform_maps, 1: uniform_maps}),
    }
    for how in ("zero", "mean"):
        for layer, head in itertools.product((0, 1), (0, 1)):
            name = f"{how} ablation: layer {layer} head {head}"
            expected[name] = ablated_heads(model, [(layer, head)], how)
        for layer in (0, 1):
            expected[f"{how} ablation: layer {layer} MLP"] = ablated_mlps(model, [layer], how)
    assert logits.keys() == expected.keys()
    for name, change in expected.items():
        with change:
            torch.testing.assert_close(logits[name], model(group.tokens[:, :-1]), msg=name)
    for one, other in itertools.combinations(logits.values(), 2):
        assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("splits", [("train", "test"), ("test", "train")])
def test_causal_tests_are_made_on_the_test_whatever_the_order_of_the_splits(
    splits: tuple[Split, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: set[str] = set()

    def record(model: LanguageModel, group: Group) -> torch.Tensor:
        tested.add(group.split)
        return predict(model, group)

    monkeypatch.setattr(causal, "predict", record)
    examiner = Examiner(CONFIG, build_dataset(CONFIG), MeasuresConfig(splits=splits, causal=True))
    assert "ideal_maps_loss" in examiner.evaluate(build_handmade(PARITY, CONFIG.tokens, 6), step=0)
    assert tested == {"test"}


def test_where_there_is_one_length_the_longer_half_is_that() -> None:
    config = DataConfig(tasks=(PARITY,), min_length=6, max_length=6, n_train=16, n_test=16)
    groups = build_groups(config, build_dataset(config), MeasuresConfig())
    summary = summarise(list(measure(build_handmade(PARITY, config.tokens, 6), config, groups)), config)
    for name in ("test_accuracy", "train_accuracy", "eoi_peakiness", "iteration_peakiness"):
        assert summary[f"{name}_long"] == summary[name] == 1.0


def test_heads_are_found_on_the_test_whatever_the_order_of_the_splits() -> None:
    tables = {"test": [[0.2, 0.9]], "train": [[0.9, 0.2]]}
    rows = [Row(0, split, 6, "accuracy", 1.0) for split in ("train", "test")]
    for split in ("train", "test"):
        rows += head_rows(split, 6, head_tables([*tables[split], [0, 0]], [[0, 0], [0, 1.0]], 0.0))
    assert summarise(rows, CONFIG)["eoi_head"] == 1
    assert summarise([row for row in rows if row.split == "train"], CONFIG)["eoi_head"] == 0
