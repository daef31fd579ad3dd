"""Norms in one pass over each row, in C++; backward too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..strides import table
from ..threads import count
from . import reference

_OUTPUTS = (torch.float32, torch.bfloat16)


def rms_norm(x_D: Tensor, weight_D: Tensor, eps: float, *, eps_outside_root: bool, dtype: torch.dtype) -> Tensor:
    """Native implementation of `ops.rms_norm`."""
    if not (takes(x_D, weight_D, gradients=True) and dtype in _OUTPUTS):
        return reference.rms_norm(x_D, weight_D, eps, eps_outside_root=eps_outside_root, dtype=dtype)
    return _RmsNorm.apply(x_D, weight_D.float().contiguous(), eps, eps_outside_root, dtype)


def gated_rms_norm(
    y_D: Tensor, gate_D: Tensor, weight_D: Tensor, eps: float, *, groups: int, dtype: torch.dtype
) -> Tensor:
    """Native implementation of `ops.gated_rms_norm`."""
    if not (takes(y_D, gate_D, weight_D, gradients=True) and dtype in _OUTPUTS):
        return reference.gated_rms_norm(y_D, gate_D, weight_D, eps, groups=groups, dtype=dtype)
    return _GatedRmsNorm.apply(y_D, gate_D, weight_D.float().contiguous(), eps, groups, dtype)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, eps_outside_root: bool, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = (eps, eps_outside_root)
        out = torch.empty(x.shape, dtype=dtype)
        extension().rms_norm(table(x), weight.detach(), eps, eps_outside_root, table(out), count())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx, dweight = torch.empty(x.shape, dtype=x.dtype), torch.empty(weight.shape)
        given = (table(x), weight.detach(), *ctx.options, table(dout))
        extension().rms_norm_backward(*given, table(dx), dweight, count())
        return dx, dweight, None, None, None


class _GatedRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gate: Tensor, weight: Tensor, eps: float, groups: int, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(y, gate, weight)
        ctx.options = (eps, groups)
        out = torch.empty(y.shape, dtype=dtype)
        extension().gated_rms_norm(table(y), table(gate), weight.detach(), eps, groups, table(out), count())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        y, gate, weight = ctx.saved_tensors
        dy, dgate = (torch.empty(t.shape, dtype=t.dtype) for t in (y, gate))
        dweight = torch.empty(weight.shape)
        given = (table(y), table(gate), weight.detach(), *ctx.options, table(dout))
        extension().gated_rms_norm_backward(*given, table(dy), table(dgate), dweight, count())
        return dy, dgate, dweight, None, None, None
