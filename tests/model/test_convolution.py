"""Short convolutions against torch's, and across documents."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanollama.model import convolution
from nanollama.model.convolution import causal_convolution

POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]])


def inputs(n_tokens: int, n_taps: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(n_tokens)
    shapes = [(2, n_tokens, 5), (5, n_taps), (5,)]
    return [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("block", [1, 2**18])
@pytest.mark.parametrize("n_taps", [1, 2, 4])
@pytest.mark.parametrize("n_tokens", [1, 2, 3, 4, 11])
def test_it_is_the_convolution_of_torch(
    monkeypatch: pytest.MonkeyPatch, n_tokens: int, n_taps: int, block: int
) -> None:
    monkeypatch.setattr(convolution, "BLOCK", block)
    x, taps, bias = arguments = inputs(n_tokens, n_taps)
    whole = F.conv1d(x.transpose(1, 2), taps[:, None], bias, padding=n_taps - 1, groups=5)
    expected = whole[..., :n_tokens].transpose(1, 2)
    found = causal_convolution(*arguments)
    torch.testing.assert_close(found, expected)
    weights = torch.arange(found.numel(), dtype=torch.float64).view(found.shape).cos()
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), arguments),
        torch.autograd.grad((expected * weights).sum(), arguments),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_documents_are_convolved_alone() -> None:
    x, taps, bias = inputs(11, 4)
    found = causal_convolution(x, taps, bias, POSITIONS)
    for row, positions in enumerate(POSITIONS):
        starts = [*(positions == 0).nonzero().flatten().tolist(), 11]
        alone = [
            causal_convolution(x[row : row + 1, start:stop], taps, bias)
            for start, stop in itertools.pairwise(starts)
        ]
        torch.testing.assert_close(found[row], torch.cat(alone, dim=1)[0])


@pytest.mark.parametrize("positions", [None, POSITIONS], ids=["one document", "packed"])
def test_gradients_are_those_of_finite_differences(positions: Tensor | None) -> None:
    assert torch.autograd.gradcheck(lambda *given: causal_convolution(*given, positions), inputs(11, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    taps, bias = torch.full((1, 2), 1 / 3), torch.zeros(1)
    result = causal_convolution(torch.ones(1, 2, 1, dtype=dtype), taps, bias)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result[0, 1, 0], torch.tensor(2 / 3))


@pytest.mark.parametrize("positions", [None, POSITIONS], ids=["one document", "packed"])
def test_what_the_compiler_is_told_is_true(positions: Tensor | None) -> None:
    arguments = (*inputs(11, 4), positions)
    torch.library.opcheck(torch.ops.nanollama.causal_convolution.default, arguments)
