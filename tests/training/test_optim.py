"""The optimizer against a plain one, the schedule against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nanollama.training.optim import OptimizerConfig, build_optimizer, learning_rate, set_learning_rate
from tests.toy_training import ToyModel


def adamw_by_hand(
    weights: list[Tensor], gradients: list[list[Tensor]], config: OptimizerConfig, decays: list[bool]
) -> None:
    """AdamW as it is written in arXiv 1711.05101, algorithm 2, in place."""
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    beta1, beta2 = config.betas
    for step, gradient_of in enumerate(gradients, start=1):
        for index, (weight, gradient) in enumerate(zip(weights, gradient_of, strict=True)):
            first[index] = beta1 * first[index] + (1 - beta1) * gradient
            second[index] = beta2 * second[index] + (1 - beta2) * gradient**2
            mean, square = first[index] / (1 - beta1**step), second[index] / (1 - beta2**step)
            if decays[index]:
                weight -= config.learning_rate * config.weight_decay * weight
            weight -= config.learning_rate * mean / (square.sqrt() + config.eps)


@pytest.mark.parametrize("decay", ["matrices", "all"])
def test_ten_fused_steps_equal_the_formula(decay: str) -> None:
    config = OptimizerConfig(learning_rate=0.01, weight_decay=0.1, decay=decay)
    model = ToyModel().double()
    parameters = list(model.parameters())
    expected = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    gradients = [
        [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
        for _ in range(10)
    ]
    optimizer = build_optimizer(config, model)
    assert optimizer.defaults["fused"], "the kernel that runs in training is the one to test"
    for gradient_of in gradients:
        for parameter, gradient in zip(parameters, gradient_of, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    adamw_by_hand(expected, gradients, config, [decay == "all" or p.dim() >= 2 for p in parameters])
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-10, atol=1e-12)


def test_adamw_has_the_decay_rates_and_the_eps_of_its_config() -> None:
    config = OptimizerConfig(learning_rate=0.01, betas=(0.7, 0.8), eps=0.1)
    model = nn.Linear(3, 2, bias=False).double()
    expected = [model.weight.detach().clone()]
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(2, 3, generator=generator, dtype=torch.float64)] for _ in range(3)]
    optimizer = build_optimizer(config, model)
    for (gradient,) in gradients:
        model.weight.grad = gradient.clone()
        optimizer.step()
    adamw_by_hand(expected, gradients, config, [True])
    torch.testing.assert_close(model.weight.detach(), expected[0], rtol=1e-10, atol=1e-12)


def test_sgd_follows_the_running_sum_of_gradients_and_spares_vectors() -> None:
    config = OptimizerConfig(implementation="sgd", learning_rate=0.01, momentum=0.9, weight_decay=0.1)
    model = nn.Linear(3, 2).double()
    generator = torch.Generator().manual_seed(0)
    optimizer = build_optimizer(config, model)
    expected = [parameter.detach().clone() for parameter in (model.weight, model.bias)]
    sums = [torch.zeros_like(value) for value in expected]
    for _ in range(3):
        for index, parameter in enumerate((model.weight, model.bias)):
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            decayed = parameter.grad + (0.1 * expected[index] if parameter.dim() == 2 else 0.0)
            sums[index] = 0.9 * sums[index] + decayed
            expected[index] -= 0.01 * sums[index]
        optimizer.step()
    torch.testing.assert_close([model.weight.detach(), model.bias.detach()], expected, rtol=1e-10, atol=1e-12)


def test_a_first_step_that_a_scaler_skips_leaves_no_momentum() -> None:
    """Whatever lies in the memory that momentum is given: bits of a huge number lie there as a rule."""
    config = OptimizerConfig(implementation="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    for _ in range(20):
        litter = [torch.full((64, 64), 1e30) for _ in range(8)]
        del litter
        weight = nn.Linear(64, 64, bias=False)
        before = weight.weight.detach().clone()
        optimizer = build_optimizer(config, weight)
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
        for gradient in (math.inf, 1.0):
            scaler.scale(torch.zeros(()))
            weight.weight.grad = torch.full((64, 64), gradient * scaler.get_scale())
            scaler.step(optimizer)
            scaler.update()
        torch.testing.assert_close(weight.weight.detach(), before - 0.1)


def test_momentum_of_some_parameters_is_enough() -> None:
    """As of a run that had frozen the others, whose momentum another run takes."""
    config = OptimizerConfig(implementation="sgd", learning_rate=0.1, momentum=0.9)
    model = ToyModel()
    optimizer = build_optimizer(config, model)
    first = next(iter(model.parameters()))
    optimizer.state[first] = {"momentum_buffer": torch.ones_like(first)}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def n_elements(optimizer: torch.optim.Optimizer) -> int:
    return sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])


def test_every_parameter_is_optimized_once_also_when_tied() -> None:
    model = ToyModel()
    optimizer = build_optimizer(OptimizerConfig(), model)
    assert n_elements(optimizer) == 11 * 8 + 8 + 72
    identities = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(identities) == len(set(identities)) == 4


def test_only_matrices_decay_unless_all_do() -> None:
    model = ToyModel()
    spared = {
        id(parameter)
        for group in build_optimizer(OptimizerConfig(), model).param_groups
        if group["weight_decay"] == 0
        for parameter in group["params"]
    }
    assert spared == {id(model.norm.weight), id(model.mix.bias)}
    groups = build_optimizer(OptimizerConfig(decay="all"), model).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1]


def test_frozen_parameters_are_left_out() -> None:
    model = ToyModel()
    model.mix.requires_grad_(False)
    assert n_elements(build_optimizer(OptimizerConfig(), model)) == 11 * 8 + 8
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        build_optimizer(OptimizerConfig(), model)


def test_a_model_without_vectors_has_one_group() -> None:
    assert len(build_optimizer(OptimizerConfig(), nn.Linear(2, 3, bias=False)).param_groups) == 1


def test_set_learning_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(OptimizerConfig(), ToyModel())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_warm_up_is_linear_and_its_first_step_learns() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, schedule="constant")
    assert [learning_rate(config, step, 6) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    for schedule in ("cosine", "linear", "constant"):
        assert learning_rate(OptimizerConfig(learning_rate=0.5, schedule=schedule), 0, 10) == 0.5


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1.0, 0.775, 0.55, 0.325]),
        ("cosine", [1.0, 0.55 + 0.45 * math.sqrt(0.5), 0.55, 0.55 - 0.45 * math.sqrt(0.5)]),
    ],
)
def test_schedules_fall_to_their_end(schedule: str, expected: list[float]) -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=2, schedule=schedule, min_lr_ratio=0.1)
    values = [learning_rate(config, step, 6) for step in range(2, 6)]
    assert values == pytest.approx(expected, rel=1e-12)
    assert learning_rate(config, 6, 6) == pytest.approx(0.1)


@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup_steps", [0, 1])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_no_step_is_without_a_learning_rate(n_steps: int, warmup_steps: int, schedule: str) -> None:
    config = OptimizerConfig(warmup_steps=warmup_steps, schedule=schedule)
    assert all(0 < learning_rate(config, step, n_steps) <= config.learning_rate for step in range(n_steps))
