"""Kernels of attention agree with each other and with a plain loop; who sees whom; keys and values."""

import math

import pytest
import torch
from torch import Tensor

from nanollama.model.mixers import attention
from nanollama.model.mixers.attention import KeyValues, attend, attend_in_blocks
from nanollama.model.positions import positions_in_documents, visible_in_documents, visible_until
from nanollama.model.state import DecodingState


def heads(n_heads: int, n_kv_heads: int, n_tokens: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n_tokens)
    shapes = [(2, count, n_tokens, 4) for count in (n_heads, n_kv_heads, n_kv_heads)]
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def by_loop(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    result = torch.zeros_like(query)
    group = query.shape[1] // key.shape[1]
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            for t in range(query.shape[2]):
                scores = [
                    float(query[row, head, t] @ key[row, head // group, s]) / math.sqrt(query.shape[3])
                    for s in range(t + 1)
                ]
                total = sum(map(math.exp, scores))
                for s, score in enumerate(scores):
                    result[row, head, t] += math.exp(score) / total * value[row, head // group, s]
    return result


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(2, 2), (4, 2), (3, 1)])
def test_attention_is_a_softmax_over_what_came_before(n_heads: int, n_kv_heads: int) -> None:
    with torch.no_grad():
        inputs = heads(n_heads, n_kv_heads, 7)
        torch.testing.assert_close(attend(*inputs), by_loop(*inputs))


@pytest.mark.parametrize("block", [1, 5, 7, 11, 96])
def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    inputs = heads(2, 2, 23)
    weights = torch.randn(2, 2, 23, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for kernel in (attend, attend_in_blocks):
        output = kernel(*inputs)
        results.append([output, *torch.autograd.grad((output * weights).sum(), inputs)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_half_precision_on_a_cpu_gives_half_precision_back_or_what_its_values_allow() -> None:
    inputs = heads(2, 2, 23)
    expected = attend(*inputs)
    rounded = [tensor.bfloat16() for tensor in inputs]
    for mask in (None, visible_until(torch.arange(23).expand(2, 23), 23)):
        torch.testing.assert_close(attend(*rounded, mask).double(), expected, rtol=0.05, atol=0.05)


def test_queries_see_what_is_not_after_them_in_their_document() -> None:
    documents = torch.tensor([[0, 0, 1, 1], [0, 1, 2, 2]])
    mask = visible_in_documents(documents, causal=True)[:, 0]
    assert mask[0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert mask[1].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    both_ways = visible_in_documents(documents, causal=False)[:, 0]
    assert both_ways[0].int().tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    assert positions_in_documents(documents).tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]
    assert visible_until(torch.tensor([[1, 3]]), 4).int().tolist() == [[[[1, 1, 0, 0], [1, 1, 1, 1]]]]


@torch.no_grad()
def test_attention_that_is_not_causal_sees_everything() -> None:
    query, key, value = heads(2, 2, 7)
    weights = (query @ key.transpose(2, 3) / 2).softmax(-1)
    torch.testing.assert_close(attend(query, key, value, causal=False), weights @ value)
    rounded = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), causal=False)
    torch.testing.assert_close(rounded.double(), weights @ value, rtol=0.05, atol=0.05)


def test_finished_lanes_leave_and_the_last_ones_take_their_places() -> None:
    layers = [
        KeyValues(*(torch.zeros(6, 2, 3, 4) + torch.arange(6.0)[:, None, None, None] for _ in range(2)))
        for _ in range(2)
    ]
    state = DecodingState([*layers], 6, 3, torch.device("cpu"))
    state.advance(torch.arange(1, 7) % 4, 3)
    rows = state.keep(torch.tensor([False, True, False, True, True, True]))
    assert sorted(rows.tolist()) == [1, 3, 4, 5]
    assert state.lengths.tolist() == [(row + 1) % 4 for row in rows.tolist()]
    assert state.longest == 2
    for layer in layers:
        for stored in (layer.keys, layer.values):
            assert torch.equal(stored, rows.float()[:, None, None, None].expand(4, 2, 3, 4))


def test_what_the_compiler_is_told_of_the_blocks_is_true() -> None:
    query, key, value = (tensor[:, 0].detach().requires_grad_() for tensor in heads(2, 2, 101))
    torch.library.opcheck(torch.ops.nanollama.attend_in_blocks.default, (query, key, value))


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_one_query_attends_as_the_last_of_many(n_kv_heads: int) -> None:
    """Decoding, with key heads that several query heads share, and rows of different lengths."""
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, 1, 6, generator=draw)
    key, value = (torch.randn(3, n_kv_heads, 9, 6, generator=draw) for _ in range(2))
    mask = visible_until(torch.tensor([[8], [3], [0]]), 9)
    shared = 4 // n_kv_heads
    scores = query @ key.repeat_interleave(shared, dim=1).transpose(2, 3) / 6**0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    expected = weights @ value.repeat_interleave(shared, dim=1)
    torch.testing.assert_close(attend(query, key, value, mask), expected)
