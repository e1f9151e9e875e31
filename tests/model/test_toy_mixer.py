"""A mixer is one file: a moving average, defined here, does all that a mixer of the library does."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mixer_contract import CHECKS, build, shape, tokens
from pydantic import Field
from torch import Tensor, nn
from toy_dialogs import TOKENIZER, FactTool, toy_model, toy_prompts

from apps.composition.causal import causal_effects
from apps.composition.data import build_dataset
from apps.composition.data_config import DataConfig
from apps.composition.measures import build_groups, find_best_circuit, measure, summarise
from apps.composition.settings import MeasuresConfig
from apps.composition.tasks import Parity
from apps.memory import train
from apps.memory.settings import MemoryConfig
from benchmarks.training_speed import SMALL, ours
from benchmarks.turns import QUICK, Contestant, Pair, Ring, Timing
from nanollama.config import Config, dump_config, load_config
from nanollama.dialogs.generate import generate, generate_one
from nanollama.errors import ConfigError, UserError
from nanollama.model import ModelConfig
from nanollama.model.mixers import MIXERS, register_mixer
from nanollama.model.mixers.mixer import Context, Mixer, gather
from nanollama.model.probe import ablated_mlps, attention_heads, edited_maps, recorded_maps, recorded_outputs
from nanollama.model.state import LayerState
from tests.toy_training import check_that_a_stopped_run_ends_alike


class EmaOptions(Config):
    """Keys of this mixer."""

    horizon: float = Field(default=4.0, gt=0, description="Tokens that an average reaches back at first.")


@dataclass
class EmaState(LayerState):
    """The averages so far, (B, D)."""

    mean: Tensor


class Ema(Mixer):
    """Every coordinate becomes its moving average over the document so far, between two maps."""

    name: ClassVar[str] = "ema"

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        assert isinstance(config, EmaOptions)
        self.horizon = config.horizon
        self.input = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.output = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.decay = nn.Parameter(torch.empty(config.d_model))

    def init_weights(self, generator: torch.Generator) -> None:
        self.decay.fill_(math.log(self.horizon))

    def forward(self, x: Tensor, context: Context, query_positions: Tensor | None = None) -> Tensor:
        state = None if context.state is None else context.state.layers[self.layer]
        assert state is None or isinstance(state, EmaState)
        mean = torch.zeros_like(x[:, 0]) if state is None else state.mean
        share, opens, n_new = self.decay.sigmoid(), context.opens, context.n_new
        means = []
        for t, value in enumerate(self.input(x).unbind(1)):
            before = mean if opens is None else mean.masked_fill(opens[:, t, None], 0.0)
            moved = share * before + (1 - share) * value
            mean = moved if n_new is None else torch.where((t < n_new)[:, None], moved, mean)
            means.append(mean)
        if state is not None:
            state.mean.copy_(mean)
        mixed = torch.stack(means, dim=1)
        return self.output(mixed if query_positions is None else gather(mixed, query_positions))

    def make_state(self, n_rows: int, capacity: int, device: torch.device) -> EmaState:
        return EmaState(torch.zeros(n_rows, self.output.in_features, device=device))

    def forward_flops(self, seq_len: int, n_queries: int) -> int:
        return 2 * (seq_len * self.input.weight.numel() + n_queries * self.output.weight.numel())


@pytest.fixture(autouse=True)
def registered() -> object:
    """The name is known while a test runs, and no longer."""
    register_mixer("ema", f"{__name__}:Ema", EmaOptions)
    yield
    del MIXERS["ema"]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("implementation", ["ema", ["ema", "transformer"], ["transformer", "ema"]], ids=str)
def test_contract(implementation: object, check: Any) -> None:
    check(shape(implementation=implementation, horizon=2.0))


def memory_config(**model: object) -> MemoryConfig:
    return MemoryConfig.model_validate(
        {
            "study": "memory",
            "name": "ema",
            "run_dir": "run",
            "data_root": "data",
            "data": {"n_people": 2, "sources": [{"kind": "qa"}]},
            "model": {"implementation": ["ema", "transformer"], **shape_keys(), **model},
            "training": {
                "n_steps": 6,
                "batch_size": 8,
                "device": "cpu",
                "checkpoint": {"every": 2, "keep": None},
                "eval_every": 3,
            },
            "recall": {"n_people": 2},
        }
    )


def shape_keys() -> dict[str, object]:
    return {"d_model": 16, "n_layers": 2, "n_heads": 2}


def test_it_trains_and_goes_on_after_a_stop_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_that_a_stopped_run_ends_alike(partial(train.run, memory_config(horizon=3.0, dropout=0.1)))


@pytest.mark.parametrize("implementation", ["ema", ["ema", "transformer"]], ids=str)
@pytest.mark.parametrize("n_steps", [0, 40])
def test_it_decodes_with_tools(implementation: object, n_steps: int) -> None:
    model = toy_model(n_steps, implementation=implementation)
    prompts = [*toy_prompts("abcz"), TOKENIZER.encode("?abcdefgh")]
    together = generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=30, batch_size=4)
    alone = [generate_one(model, TOKENIZER, prompt, FactTool(), max_new_tokens=30) for prompt in prompts]
    assert together == alone
    assert n_steps == 0 or any(completion.replies for completion in together)


@torch.no_grad()
def test_it_is_probed() -> None:
    model, ids = build(shape(implementation=["ema", "transformer"])), tokens()
    plain = model(ids)
    with (
        recorded_outputs(model, ["blocks.0.ema", "blocks.1.attention"]) as outputs,
        recorded_maps(model) as maps,
    ):
        torch.testing.assert_close(model(ids), plain, rtol=1e-5, atol=1e-5)
    assert all(output.shape == (3, 12, 16) for output in outputs.values())
    assert maps.keys() == {1} and attention_heads(model) == [(1, 0), (1, 1)]
    with ablated_mlps(model, [0]):
        assert not torch.allclose(model(ids), plain, atol=1e-3)
    with (
        pytest.raises(UserError, match="Layer 0 has no attention: its mixer is ema"),
        edited_maps(model, {0: lambda maps: maps}),
    ):
        pass


@pytest.mark.parametrize("implementation", ["ema", ["ema", "transformer"], ["transformer", "ema"]], ids=str)
def test_a_study_of_attention_measures_what_there_is(implementation: object) -> None:
    task = Parity(implementation="parity", problem_token=32)
    config = DataConfig(tasks=(task,), max_length=4, n_train=64, n_test=32)
    groups = build_groups(config, build_dataset(config), MeasuresConfig(splits=("test",)))
    model = build(shape(implementation=implementation, vocab_size=64))
    summary = summarise(list(measure(model, config, groups)), config)
    assert 0 <= summary["test_accuracy"] <= 1 and find_best_circuit(summary) is None
    assert ("iteration_peakiness" in summary) == (implementation != "ema")
    names = [effect.change for effect in causal_effects(model, config, groups, None)]
    assert "zero ablation: layer 0 MLP" in names
    assert ("uniform maps: every head" in names) == (implementation != "ema")


def ema_step() -> Any:
    """Made in a process of its own, where the name has to be registered again."""
    if "ema" not in MIXERS:
        register_mixer("ema", f"{__name__}:Ema", EmaOptions)
    return ours(SMALL, "qa", compile_model=False, implementation="ema")


@pytest.mark.slow
def test_it_is_benchmarked() -> None:
    attention = Contestant("attention", partial(ours, SMALL, "qa", False))
    pair = Pair("qa", "dialogs/s", Contestant("ema", ema_step), attention)
    ring = Ring(time.monotonic() + 100)
    timing = ring.compare(pair, QUICK, time.monotonic() + 100)
    ring.close()
    assert isinstance(timing, Timing) and min(timing.ours) > 0


def test_its_keys_are_keys_of_the_model(tmp_path: Path) -> None:
    config = memory_config()
    assert isinstance(config.model, EmaOptions) and config.model.horizon == 4.0
    path = tmp_path / "run.yaml"
    path.write_text(dump_config(config))
    assert "\n  horizon: 4.0\n" in path.read_text()
    assert load_config(MemoryConfig, [str(path)]) == config
    changed = load_config(MemoryConfig, [str(path), "model.horizon=2.5"])
    assert isinstance(changed.model, EmaOptions) and changed.model.horizon == 2.5
    assert changed.model.model_copy(update={"n_layers": 4}).mixers == ("ema", "transformer") * 2


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("model.horizn=2.0", "unknown key; did you mean 'horizon'? (known: implementation, "),
        ("model.horizon=0", "expected a number > 0, got 0."),
        ("model.horizon=far", "expected a number > 0, got 'far'."),
        ("model.implementation=transformer", "unknown key; it belongs to implementation 'ema' (known: "),
        ("model.implementation=emma", "got 'emma'; did you mean 'ema'?"),
        ("model.implementation=[ema, emma]", "got 'emma'; did you mean 'ema'?"),
        (
            "model.implementation=3",
            "expected a text with at least 1 character or a list with at least 1 entry",
        ),
        (
            "model.causal=false",
            "model.causal=false: causal = false is not for ema, which reads from first to last.",
        ),
    ],
)
def test_wrong_keys_are_told_with_their_place(argument: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(dump_config(memory_config()))
    with pytest.raises(ConfigError) as error:
        load_config(MemoryConfig, [str(path), argument])
    assert said in str(error.value) and "(known: )" not in str(error.value)
