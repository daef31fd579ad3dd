"""The native scan as autograd sees it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension
from ..threads import count

Forward = Callable[..., tuple[Tensor, Tensor]]


def recorded(forward: Forward, groups: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """`forward` of dense rows (x, dt [R, L, ...], a, b, c, d, states before): outputs and the states after."""
    return _Scan.apply(forward, groups, *inputs)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Forward, groups: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs)
        ctx.groups = groups
        return forward(*(t.detach() for t in inputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dafter: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        x, dt, a, b, c, d, before = inputs
        by_group = (len(x), ctx.groups, x.shape[1], before.shape[3])
        dx, ddt, dbefore = (torch.empty(t.shape) for t in (x, dt, before))
        da, dd, db, dc = torch.empty(a.shape), torch.empty(d.shape), torch.empty(by_group), torch.empty(by_group)
        given = (*(t.detach() for t in inputs), dy.contiguous(), dafter.contiguous())
        extension().ssd_backward(*given, dx, ddt, da, db, dc, dd, dbefore, ctx.groups, count())
        db, dc = (t.transpose(1, 2).flatten(2) for t in (db, dc))
        return None, None, dx.to(x.dtype), ddt.to(dt.dtype), da, db.to(b.dtype), dc.to(c.dtype), dd, dbefore
