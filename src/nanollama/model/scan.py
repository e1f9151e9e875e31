"""First-order linear recurrences over time, all steps of a row at once.

An odd-even scan (Blelloch, "Prefix sums and their applications", 1990): pairs of steps are joined until few
are left, those are taken one after another, and the steps between them are filled in. It multiplies decays
and never takes their logarithm, so gates that are exactly 0 or 1 give exact values and gradients.

Shapes: B rows, T tokens, H heads, K numbers that share a decay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOOP_LENGTH = 32  # so few steps are taken in a loop; between 8 and 64 it matters little on the CPUs measured


def linear_scan(decay: Tensor, values: Tensor, initial: Tensor | None = None) -> Tensor:
    """h_t = decay_t h_{t-1} + values_t for all t; a decay of 0 forgets all that came before.

    Computed in float32 where the inputs have less precision.

    Args:
        decay: (B, T, H, K), or (B, T, H, 1) where numbers share it.
        values: (B, T, H, K).
        initial: (B, H, K), what h is before the first step; default 0.

    Returns:
        (B, T, H, K), at least float32.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    before = values.new_zeros(values[:, 0].shape) if initial is None else initial
    decay, values, before = decay.to(dtype), values.to(dtype), before.to(dtype)
    if values.shape[1] == 1:
        return torch.addcmul(values, decay, before[:, None])
    return _forward(decay, values, before)


def _scan(decay: Tensor, values: Tensor, before: Tensor, result: Tensor, backwards: bool) -> None:
    """Write the recurrence into ``result``; ``backwards`` from the last step to the first."""
    n_steps = values.shape[1]
    if n_steps <= LOOP_LENGTH:
        steps = list(zip(decay.unbind(1), values.unbind(1), result.unbind(1), strict=True))
        for decay_here, values_here, here in reversed(steps) if backwards else steps:
            before = torch.addcmul(values_here, decay_here, before, out=here)
        return

    def every_other(x: Tensor, first: int, count: int) -> Tensor:
        """Steps first, first + 2, ... in the order in which they are taken."""
        start = n_steps + 1 - first - 2 * count if backwards else first
        return x[:, start : start + 2 * count - 1 : 2]

    n_pairs, n_between = n_steps // 2, (n_steps - 1) // 2
    decay_second = every_other(decay, 1, n_pairs)
    _scan(
        decay_second * every_other(decay, 0, n_pairs),
        torch.addcmul(every_other(values, 1, n_pairs), decay_second, every_other(values, 0, n_pairs)),
        before,
        every_other(result, 1, n_pairs),
        backwards,
    )
    torch.addcmul(
        every_other(values, 0, 1), every_other(decay, 0, 1), before[:, None], out=every_other(result, 0, 1)
    )
    torch.addcmul(
        every_other(values, 2, n_between),
        every_other(decay, 2, n_between),
        every_other(result, 1, n_between),
        out=every_other(result, 2, n_between),
    )


# Both passes are opaque to torch.compile, which would unroll them.
@torch.library.custom_op("nanollama::linear_scan", mutates_args=())
def _forward(decay: Tensor, values: Tensor, before: Tensor) -> Tensor:
    """As `linear_scan`."""
    result = values.new_empty(values.shape)
    _scan(decay, values, before, result, backwards=False)
    return result


@torch.library.custom_op("nanollama::linear_scan_backward", mutates_args=())
def _backward(grad: Tensor, decay: Tensor, before: Tensor, result: Tensor) -> list[Tensor]:
    """Gradients of decays, values and start: the same recurrence from the end, decays moved by one."""
    grad_values = torch.empty_like(result)
    grad_values[:, -1] = grad[:, -1]
    _scan(decay[:, 1:], grad[:, :-1], grad[:, -1], grad_values[:, :-1], backwards=True)
    if decay.shape == result.shape:
        grad_decay = torch.empty_like(result)
        torch.mul(grad_values[:, 1:], result[:, :-1], out=grad_decay[:, 1:])
        torch.mul(grad_values[:, 0], before, out=grad_decay[:, 0])
    else:
        grad_decay = (grad_values[:, 1:] * result[:, :-1]).sum(-1, keepdim=True)
        first = (grad_values[:, :1] * before[:, None]).sum(-1, keepdim=True)
        grad_decay = torch.cat([first, grad_decay], dim=1)
    return [grad_decay, grad_values, decay[:, 0] * grad_values[:, 0]]


@_forward.register_fake
def _(decay: Tensor, values: Tensor, before: Tensor) -> Tensor:
    return values.new_empty(values.shape)


@_backward.register_fake
def _(grad: Tensor, decay: Tensor, before: Tensor, result: Tensor) -> list[Tensor]:
    return [result.new_empty(decay.shape), torch.empty_like(result), torch.empty_like(before)]


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    decay, _, before = inputs
    ctx.save_for_backward(decay, before, output)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return tuple(_backward(grad, *ctx.saved_tensors))


_forward.register_autograd(_differentiate, setup_context=_save)
