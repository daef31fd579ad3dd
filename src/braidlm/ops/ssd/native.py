"""State-space duality in chunks: small matrix products that stay in the caches, in C++; backward too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together
from ..threads import count
from . import reference


def ssd(
    x_THP: Tensor,
    dt_TH: Tensor,
    a_H: Tensor,
    b_TGN: Tensor,
    c_TGN: Tensor,
    d_H: Tensor,
    state_RHPN: Tensor,
    segments: Segments,
) -> Carried:
    """Native implementation of `ops.ssd`."""
    tensors = (x_THP, dt_TH, a_H, b_TGN, c_TGN, d_H, state_RHPN)
    if not (takes(*tensors, gradients=True) and state_RHPN.dtype == torch.float32):
        return reference.ssd(*tensors, segments)
    a, d, groups = a_H.float().contiguous(), d_H.float().contiguous(), b_TGN.shape[1]

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return _Scan.apply(groups, x, dt, a, b, c, d, before.contiguous())

    inputs = [channels_together(t) for t in (x_THP, dt_TH, b_TGN, c_TGN)]
    y_T, state_R, snapshots = over_rows(step, inputs, state_RHPN, segments)
    return Carried(y_T.view(x_THP.shape), state_R, snapshots)


class _Scan(torch.autograd.Function):
    """Autograd function over dense rows, of x, dt [R, L, ...], a, b, c, d and states before; returns y and states."""

    @staticmethod
    def forward(ctx: Any, groups: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs)
        ctx.groups = groups
        y, after = torch.empty(inputs[0].shape), torch.empty(inputs[-1].shape)
        extension().ssd(*(t.detach() for t in inputs), y, after, groups, count())
        return y, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dafter: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        x, dt, a, b, c, d, before = inputs
        by_group = (len(x), ctx.groups, x.shape[1], before.shape[3])
        dx, ddt, dbefore = (torch.empty(t.shape, dtype=t.dtype) for t in (x, dt, before))
        da, dd, db, dc = torch.empty(a.shape), torch.empty(d.shape), torch.empty(by_group), torch.empty(by_group)
        given = (*(t.detach() for t in inputs), dy.contiguous(), dafter.contiguous())
        extension().ssd_backward(*given, dx, ddt, da, db, dc, dd, dbefore, ctx.groups, count())
        db, dc = (t.transpose(1, 2).flatten(2) for t in (db, dc))
        return None, dx, ddt, da, db.to(b.dtype), dc.to(c.dtype), dd, dbefore
