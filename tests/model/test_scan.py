"""The scan against the recurrence, step by step."""

import pytest
import torch
from torch import Tensor

from nanollama.model import scan
from nanollama.model.scan import linear_scan


def inputs(n_tokens: int, shared: bool = False, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Decays in (0, 1), values and a start."""
    draw = torch.Generator().manual_seed(n_tokens)
    decay = torch.rand(2, n_tokens, 3, 1 if shared else 4, generator=draw, dtype=torch.float64)
    values = torch.randn(2, n_tokens, 3, 4, generator=draw, dtype=torch.float64)
    initial = torch.randn(2, 3, 4, generator=draw, dtype=torch.float64)
    return [tensor.to(dtype).requires_grad_() for tensor in (decay, values, initial)]


def by_steps(decay: Tensor, values: Tensor, initial: Tensor | None = None) -> Tensor:
    hidden = torch.zeros_like(values[:, 0]) if initial is None else initial
    steps = []
    for decay_here, values_here in zip(decay.unbind(1), values.unbind(1), strict=True):
        hidden = decay_here * hidden + values_here
        steps.append(hidden)
    return torch.stack(steps, dim=1)


def with_gradients(result: Tensor, arguments: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [result, *torch.autograd.grad((result * weights.to(result.dtype)).sum(), arguments)]


@pytest.mark.parametrize("shared", [False, True], ids=["decays", "shared decays"])
@pytest.mark.parametrize("loop_length", [1, 2, 32])
@pytest.mark.parametrize("n_tokens", [1, 2, 3, 4, 5, 8, 9, 33, 64, 67, 131])
def test_a_scan_is_the_recurrence_and_so_are_its_gradients(
    monkeypatch: pytest.MonkeyPatch, n_tokens: int, loop_length: int, shared: bool
) -> None:
    monkeypatch.setattr(scan, "LOOP_LENGTH", loop_length)
    arguments = inputs(n_tokens, shared)
    found = with_gradients(linear_scan(*arguments), arguments)
    expected = with_gradients(by_steps(*arguments), arguments)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "LOOP_LENGTH", 2)
    for shared in (False, True):
        assert torch.autograd.gradcheck(linear_scan, inputs(7, shared))


def test_float32_is_exact_to_rounding_over_many_steps() -> None:
    arguments = inputs(512, dtype=torch.float32)
    exact = [tensor.detach().double().requires_grad_() for tensor in arguments]
    found = with_gradients(linear_scan(*arguments), arguments)
    expected = with_gradients(by_steps(*exact), exact)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_tokens", [5, 70])
def test_gates_that_are_open_or_shut_lose_nothing(n_tokens: int) -> None:
    """Decays of exactly 0 and 1: sums and gradients are exact, where logarithms would give nan."""
    draw = torch.Generator().manual_seed(0)
    decay = torch.randint(2, (2, n_tokens, 8), generator=draw).float().requires_grad_()
    values = torch.randint(-4, 5, (2, n_tokens, 8), generator=draw).float().requires_grad_()
    result = linear_scan(decay, values)
    assert torch.equal(result, by_steps(decay, values))
    found = torch.autograd.grad(result.sum(), [decay, values])
    expected = torch.autograd.grad(by_steps(decay, values).sum(), [decay, values])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_decay_of_zero_parts_what_comes_after_from_what_came_before() -> None:
    decay, values, initial = inputs(80)
    with torch.no_grad():
        decay[:, 33] = 0
    after = linear_scan(decay, values, initial)[:, 33:]
    torch.testing.assert_close(after, linear_scan(decay[:, 33:], values[:, 33:]))
    gradients = torch.autograd.grad(after.sum(), [values, initial])
    assert (gradients[0][:, :33] == 0).all() and (gradients[1] == 0).all()


def test_a_row_read_in_two_parts_is_the_row() -> None:
    decay, values, initial = inputs(90)
    first = linear_scan(decay[:, :37], values[:, :37], initial)
    second = linear_scan(decay[:, 37:], values[:, 37:], first[:, -1])
    torch.testing.assert_close(torch.cat([first, second], dim=1), linear_scan(decay, values, initial))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    """A sum of 600 ones: bfloat16 would stop at 256."""
    ones = torch.ones(1, 600, 2, dtype=dtype)
    result = linear_scan(ones, ones)
    assert result.dtype == torch.float32
    assert torch.equal(result[0, :, 0], torch.arange(1.0, 601.0))


def test_what_the_compiler_is_told_of_the_scan_is_true() -> None:
    for shared in (False, True):
        torch.library.opcheck(torch.ops.nanollama.linear_scan.default, tuple(inputs(40, shared)))
