"""The selective scan token by token, its states in registers, in C++; backward too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together, plain
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
    """See the package."""
    tensors = (x_TE, dt_TE, a_EN, b_TN, c_TN, d_E, state_REN)
    if not (takes(*tensors, gradients=True) and state_REN.dtype == torch.float32):
        return reference.selective_scan(*tensors, segments)
    a, d = a_EN.float().contiguous(), d_E.float().contiguous()

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return _Scan.apply(x, dt, a, b, c, d, before.contiguous())

    inputs = [channels_together(t) for t in (x_TE, dt_TE, b_TN, c_TN)]
    return over_rows(step, inputs, state_REN, segments)


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
    """See the package; under autograd the parts one after the other."""
    tensors = (x_TE, dt_TE, dt_bias_E, a_EN, b_TN, c_TN, d_E, gate_TE, state_REN)
    if not (takes(*tensors) and state_REN.dtype == torch.float32):
        return reference.gated_selective_scan(*tensors, segments, selective_scan)
    dt_bias, a, d = (plain(t) for t in (dt_bias_E, a_EN, d_E))

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, gate: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        y, after = torch.empty(x.shape, dtype=x.dtype), torch.empty(before.shape)
        extension().selective_scan(x, dt, dt_bias, a, b, c, d, gate, before.contiguous(), y, after, count())
        return y, after

    inputs = [channels_together(t.detach()) for t in (x_TE, dt_TE, b_TN, c_TN, gate_TE)]
    return over_rows(step, inputs, state_REN.detach(), segments)


class _Scan(torch.autograd.Function):
    """Dense rows [R, L, ...]: outputs and the states after them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs)
        y, after = torch.empty(inputs[0].shape), torch.empty(inputs[-1].shape)
        x, dt, a, b, c, d, before = (t.detach() for t in inputs)
        extension().selective_scan(x, dt, None, a, b, c, d, None, before, y, after, count())
        return y, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dafter: Tensor) -> tuple[Tensor, ...]:
        inputs = ctx.saved_tensors
        x, dt, _, b, c, _, before = inputs
        (rows, length, channels), states = x.shape, b.shape[2]
        blocks = -(-channels // extension().SCAN_CHANNELS)
        dx, ddt, da, dd = (torch.empty(t) for t in (x.shape, x.shape, before.shape, (rows, channels)))
        db, dc = (torch.empty(rows, blocks, length, states) for _ in range(2))
        dbefore = torch.empty(before.shape)
        given = (dy.contiguous(), dafter.contiguous())
        made = (dx, ddt, da, db, dc, dd, dbefore)
        extension().selective_scan_backward(*(t.detach() for t in inputs), *given, *made, count())
        db, dc = db.sum(1), dc.sum(1)
        return dx.to(x.dtype), ddt.to(dt.dtype), da.sum(0), db.to(b.dtype), dc.to(c.dtype), dd.sum(0), dbefore
