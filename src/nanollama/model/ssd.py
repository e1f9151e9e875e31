"""Mamba2's state space model, a chunk of tokens at a time (SSD, arXiv 2405.21060, section 6).

Each head keeps a matrix: state_t = exp(step_t rate) state_{t-1} + step_t key_t value_t^T, and reads
y_t = query_t^T state_t + skip value_t. Within a chunk that is a product with a masked matrix; from chunk to
chunk states are carried by a scan. Decays are masked before the exponential is taken and their logarithms are
summed in float64, so steps of any size give finite values and gradients.

Shapes: B rows, T tokens, H heads, P width of a head, N size of the state a channel, n chunks of C tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nanollama.model.scan import linear_scan
from nanollama.precision import no_autocast

SMALLEST_LOG = -1000.0  # the exponential of less is 0 too, but would drown what is added to it


def ssd(
    values: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    skip: Tensor,
    *,
    chunk_size: int,
    state: Tensor | None = None,
    opens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What each token reads from the states, and the states behind the last token.

    Computed in float32 where the inputs have less precision; a step of 0 leaves the state as it is.

    Args:
        values: (B, T, H, P), x in the paper.
        steps: (B, T, H), not negative, Delta in the paper.
        rates: (H,), negative, A in the paper.
        keys: (B, T, N), B in the paper, shared by the heads.
        queries: (B, T, N), C in the paper, shared by the heads.
        skip: (H,), D in the paper.
        chunk_size: tokens of a chunk; the result does not depend on it.
        state: (B, H, N, P) before the first token; default 0.
        opens: (B, T) bool, tokens at which states start anew.

    Returns:
        (B, T, H, P) and (B, H, N, P), at least float32.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    values, steps, keys, queries = (part.to(dtype) for part in (values, steps, keys, queries))
    n_rows, n_tokens, n_heads, width = values.shape
    if n_tokens == 1 and opens is None:
        before = values.new_zeros(n_rows, n_heads, keys.shape[2], width) if state is None else state
        read, state = ssd_step(values[:, 0], steps[:, 0], rates, keys[:, 0], queries[:, 0], skip, before)
        return read[:, None], state
    with no_autocast(values.device):
        return _in_chunks(values, steps, rates, keys, queries, skip, min(chunk_size, n_tokens), state, opens)


def ssd_step(
    values: Tensor, steps: Tensor, rates: Tensor, keys: Tensor, queries: Tensor, skip: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`ssd` of one token a row: all arguments without T."""
    decay = (steps * rates).exp()[:, :, None, None]
    written = keys[:, None, :, None] * (steps[:, :, None] * values)[:, :, None]
    state = torch.addcmul(written, decay, state)
    return (queries[:, None, None] @ state)[:, :, 0] + skip[:, None] * values, state


def _in_chunks(
    values: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    skip: Tensor,
    chunk_size: int,
    state: Tensor | None,
    opens: Tensor | None,
) -> tuple[Tensor, Tensor]:
    n_rows, n_tokens, n_heads, width = values.shape
    values, steps, keys, queries = (_chunks(part, chunk_size) for part in (values, steps, keys, queries))
    values, steps = (
        values.transpose(2, 3).contiguous(),
        steps.transpose(2, 3),
    )  # (B, n, H, C, P), (B, n, H, C)
    logs = (steps * rates[:, None]).clamp(min=SMALLEST_LOG)
    sums = logs.double().cumsum(-1)  # from before the chunk
    within, since_start, until_end = _masks(opens, chunk_size, sums)

    # (B, n, H, C, C): what each token takes from each of its chunk.
    decay = (sums[..., :, None] - sums[..., None, :]).to(values.dtype).masked_fill(~within, -torch.inf).exp()
    mixing = (queries @ keys.transpose(2, 3))[:, :, None] * decay * steps[..., None, :]
    mixing = mixing + torch.diag_embed(skip[:, None].expand(-1, chunk_size))

    # (B, n, H, N, P): what each chunk adds to the state, and the state before each.
    to_end = (sums[..., -1:] - sums).to(values.dtype).exp().masked_fill(~until_end, 0) * steps
    added = (keys.transpose(2, 3)[:, :, None] * to_end[..., None, :]) @ values
    from_start = sums.to(values.dtype).exp().masked_fill(~since_start, 0)
    carried = linear_scan(
        from_start[..., -1:], added.flatten(3), None if state is None else state.flatten(2).to(added.dtype)
    ).view(added.shape)
    first = torch.zeros_like(added[:, :1]) if state is None else state[:, None].to(added.dtype)
    before = torch.cat([first, carried[:, :-1]], dim=1)

    read = torch.baddbmm(
        ((queries[:, :, None] * from_start[..., None]) @ before).flatten(0, 2),
        mixing.flatten(0, 2),
        values.flatten(0, 2),
    ).view(values.shape)
    read = read.transpose(2, 3).reshape(n_rows, -1, n_heads, width)
    return read[:, :n_tokens], carried[:, -1]


def _chunks(x: Tensor, chunk_size: int) -> Tensor:
    """(B, T, ...) to (B, n, C, ...), zeros behind the last token."""
    n_missing = -x.shape[1] % chunk_size
    if n_missing:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, n_missing))
    return x.unflatten(1, (-1, chunk_size))


def _masks(opens: Tensor | None, chunk_size: int, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What no start of a document parts.

    Returns:
        (C, C) or (B, n, 1, C, C): which tokens of its chunk each token takes from; two of (1,) or
        (B, n, 1, C): tokens that the state before the chunk reaches, and those that reach its end.
    """
    earlier = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=sums.device).tril()
    if opens is None:
        everything = torch.ones(1, dtype=torch.bool, device=sums.device)
        return earlier, everything, everything
    n_opened = _chunks(opens, chunk_size).flatten(1).int().cumsum(1).unflatten(1, (-1, chunk_size))
    at_end = n_opened[:, :, -1:]
    before = F.pad(at_end[:, :-1], (0, 0, 1, 0))
    within = earlier & (n_opened[:, :, :, None] == n_opened[:, :, None, :])
    return within[:, :, None], (n_opened == before)[:, :, None], (n_opened == at_end)[:, :, None]
