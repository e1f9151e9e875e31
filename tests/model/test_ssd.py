"""The chunked form of Mamba2's state space model against its recurrence, token by token."""

import pytest
import torch
from torch import Tensor

from nanollama.model.ssd import ssd, ssd_step

STARTS = 0.2  # share of tokens that open a document


def inputs(n_tokens: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Values, steps, rates, keys, queries, skip; and a state."""
    draw = torch.Generator().manual_seed(n_tokens)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    arguments = [
        normal(2, n_tokens, 3, 4),
        normal(2, n_tokens, 3).exp(),
        -normal(3).exp(),
        normal(2, n_tokens, 5),
        normal(2, n_tokens, 5),
        normal(3),
        normal(2, 3, 5, 4),
    ]
    *arguments, state = [tensor.to(dtype).requires_grad_() for tensor in arguments]
    return arguments, state


def starts(n_tokens: int) -> Tensor:
    return torch.rand(2, n_tokens, generator=torch.Generator().manual_seed(1)) < STARTS


def by_steps(arguments: list[Tensor], state: Tensor, opens: Tensor | None = None) -> tuple[Tensor, Tensor]:
    values, steps, rates, keys, queries, skip = arguments
    read = []
    for t in range(values.shape[1]):
        if opens is not None:
            state = state * ~opens[:, t, None, None, None]
        here, state = ssd_step(values[:, t], steps[:, t], rates, keys[:, t], queries[:, t], skip, state)
        read.append(here)
    return torch.stack(read, dim=1), state


def with_gradients(results: tuple[Tensor, Tensor], arguments: list[Tensor]) -> list[Tensor]:
    weights = [
        torch.arange(one.numel(), device=one.device, dtype=one.dtype).view(one.shape).cos() for one in results
    ]
    total = sum(((one * weight).sum() for one, weight in zip(results, weights, strict=True)), torch.zeros(()))
    return [*results, *torch.autograd.grad(total, arguments)]


def test_a_step_is_the_formula_of_the_paper() -> None:
    (values, steps, rates, keys, queries, skip), state = inputs(1)
    read, after = ssd_step(values[:, 0], steps[:, 0], rates, keys[:, 0], queries[:, 0], skip, state)
    for row in range(2):
        for head in range(3):
            step, here = steps[row, 0, head], values[row, 0, head]
            expected = (step * rates[head]).exp() * state[row, head]
            expected = expected + torch.outer(keys[row, 0], step * here)
            torch.testing.assert_close(after[row, head], expected)
            torch.testing.assert_close(read[row, head], queries[row, 0] @ expected + skip[head] * here)


@pytest.mark.parametrize("packed", [False, True], ids=["one document", "packed"])
@pytest.mark.parametrize("chunk_size", [1, 4, 16, 64])
@pytest.mark.parametrize("n_tokens", [1, 2, 16, 17, 40])
def test_chunks_are_the_recurrence_and_so_are_their_gradients(
    n_tokens: int, chunk_size: int, packed: bool
) -> None:
    arguments, state = inputs(n_tokens)
    opens = starts(n_tokens) if packed else None
    found = ssd(*arguments, chunk_size=chunk_size, state=state, opens=opens)
    for one, other in zip(
        with_gradients(found, [*arguments, state]),
        with_gradients(by_steps(arguments, state, opens), [*arguments, state]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    arguments, state = inputs(5)

    def in_chunks(*given: Tensor) -> tuple[Tensor, Tensor]:
        return ssd(*given[:6], chunk_size=2, state=given[6], opens=starts(5))

    assert torch.autograd.gradcheck(in_chunks, [*arguments, state])


def test_without_a_state_it_starts_from_nothing() -> None:
    arguments, state = inputs(9)
    torch.testing.assert_close(
        ssd(*arguments, chunk_size=4), ssd(*arguments, chunk_size=4, state=torch.zeros_like(state))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4, 1e30])
def test_steps_of_any_size_give_exact_finite_values_and_gradients(size: float, dtype: torch.dtype) -> None:
    """Decays of exactly 1 and 0; those of ordinary steps beside huge ones stay exact."""
    arguments, state = inputs(40, dtype)
    with torch.no_grad():
        arguments[1][:, ::3] = size
        arguments[0][:, ::3] /= max(1.0, size)  # what huge steps write stays of ordinary size
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    everything = [*arguments, state]
    exact = [tensor.detach().double().requires_grad_() for tensor in everything]
    found = with_gradients(ssd(*arguments, chunk_size=16, state=state), everything)
    expected = with_gradients(by_steps(exact[:6], exact[6]), exact)
    for one, other in zip(found, expected, strict=True):
        assert one.isfinite().all()
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one.double() / scale, other / scale, rtol=tolerance, atol=tolerance)


def test_a_step_of_zero_leaves_the_state_as_it_is() -> None:
    arguments, _ = inputs(20)
    with torch.no_grad():
        arguments[1][:, 13:] = 0
    _, expected = ssd(*(part[:, :13] if part.dim() > 1 else part for part in arguments), chunk_size=8)
    _, found = ssd(*arguments, chunk_size=8)
    torch.testing.assert_close(found, expected)


def test_a_row_read_in_two_parts_is_the_row() -> None:
    arguments, state = inputs(40)
    whole, after = ssd(*arguments, chunk_size=16, state=state)
    parts = []
    for span in (slice(0, 23), slice(23, 24), slice(24, 40)):
        read, state = ssd(
            *(part[:, span] if part.dim() > 1 else part for part in arguments), chunk_size=16, state=state
        )
        parts.append(read)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, after)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    """A sum of 600 ones, under autocast too: bfloat16 would stop at 256."""
    ones = torch.ones(1, 600, 1, dtype=dtype)
    steps, rates, skip = torch.ones(1, 600, 1), torch.zeros(1), torch.zeros(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read, state = ssd(ones[..., None], steps, rates, ones, ones, skip, chunk_size=32)
    assert read.dtype == state.dtype == torch.float32
    assert torch.equal(read.flatten(), torch.arange(1.0, 601.0))
