"""The selective scan token by token, its states in registers, in C++; backward too.

Time steps and what the gate multiplies are made where they are used, and made again for the gradient. For it, states
are kept at the borders of pieces of time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together
from ..threads import count
from . import reference


def selective_scan(
    x_TE: Tensor,
    dt_TE: Tensor,
    a_EN: Tensor,
    b_TN: Tensor,
    c_TN: Tensor,
    d_E: Tensor,
    state_REN: Tensor,
    segments: Segments,
) -> Carried:
    """Native implementation of `ops.selective_scan`."""
    tensors = (x_TE, dt_TE, a_EN, b_TN, c_TN, d_E, state_REN)
    if not (takes(*tensors, gradients=True) and state_REN.dtype == torch.float32):
        return reference.selective_scan(*tensors, segments)
    return _over_rows(x_TE, dt_TE, None, a_EN, b_TN, c_TN, d_E, None, state_REN, segments)


def gated_selective_scan(
    x_TE: Tensor,
    dt_TE: Tensor,
    dt_bias_E: Tensor,
    a_EN: Tensor,
    b_TN: Tensor,
    c_TN: Tensor,
    d_E: Tensor,
    gate_TE: Tensor,
    state_REN: Tensor,
    segments: Segments,
) -> Carried:
    """Native implementation of `ops.gated_selective_scan`."""
    tensors = (x_TE, dt_TE, dt_bias_E, a_EN, b_TN, c_TN, d_E, gate_TE, state_REN)
    if not (takes(*tensors, gradients=True) and state_REN.dtype == torch.float32):
        return reference.gated_selective_scan(*tensors, segments)
    return _over_rows(*tensors, segments)


def _over_rows(
    x_TE: Tensor,
    dt_TE: Tensor,
    dt_bias_E: Tensor | None,
    a_EN: Tensor,
    b_TN: Tensor,
    c_TN: Tensor,
    d_E: Tensor,
    gate_TE: Tensor | None,
    state_REN: Tensor,
    segments: Segments,
) -> Carried:
    """Scans every row, with a bias and a gate or with neither."""
    bias, a, d = (None if t is None else t.float().contiguous() for t in (dt_bias_E, a_EN, d_E))
    inputs = [channels_together(t) for t in (x_TE, dt_TE, b_TN, c_TN, gate_TE) if t is not None]

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        *gate, before = rest
        return _Scan.apply(x, dt, bias, a, b, c, d, gate[0] if gate else None, before.contiguous())

    return over_rows(step, inputs, state_REN, segments)


class _Scan(torch.autograd.Function):
    """Autograd function over dense rows [R, L, ...]: outputs (in x's dtype if gated), and the states after them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, *_, gate, before = inputs
        y = torch.empty(x.shape, dtype=torch.float32 if gate is None else x.dtype)
        after = torch.empty(before.shape)
        borders = torch.empty(_borders(x, before)) if any(ctx.needs_input_grad) else None
        extension().selective_scan(*map(_held, inputs), y, after, borders, count())
        ctx.save_for_backward(*inputs, borders)
        return y, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dafter: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # which may be read once where activations are computed again
        x, dt, bias, _, b, c, _, gate, before, borders = saved
        (rows, length, channels), states = x.shape, b.shape[2]
        dx, ddt = (torch.empty(t.shape, dtype=t.dtype) for t in (x, dt))
        dgate = None if gate is None else torch.empty(gate.shape, dtype=gate.dtype)
        da, dbefore = (torch.empty(before.shape) for _ in range(2))
        dd = torch.empty(rows, channels)
        dbias = None if bias is None else torch.empty(rows, channels)
        db, dc = (torch.empty(rows, borders.shape[1], length, states) for _ in range(2))
        given = (*map(_held, saved), dy.contiguous(), dafter.contiguous())
        extension().selective_scan_backward(*given, dx, ddt, dbias, da, db, dc, dd, dgate, dbefore, count())
        dbias = None if dbias is None else dbias.sum(0)
        db, dc = db.sum(1).to(b.dtype), dc.sum(1).to(c.dtype)
        return dx, ddt, dbias, da.sum(0), db, dc, dd.sum(0), dgate, dbefore


def _borders(x: Tensor, before: Tensor) -> tuple[int, ...]:
    """Shape of the states before every piece of time of every block of channels."""
    (rows, length, channels), (pieces, block) = x.shape, (extension().SCAN_TOKENS, extension().SCAN_CHANNELS)
    return rows, -(-channels // block), -(-length // pieces), before.shape[2], block


def _held(tensor: Tensor | None) -> Tensor | None:
    """An input as the extension reads it."""
    return None if tensor is None else tensor.detach()
