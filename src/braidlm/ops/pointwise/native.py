"""Pointwise operations in one pass over memory, in C++: no intermediate in another dtype is written; backward too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..strides import table
from ..threads import count
from . import reference


def glu(gate_D: Tensor, up_D: Tensor, activation: str) -> Tensor:
    """Native implementation of `ops.glu`."""
    if not (takes(gate_D, up_D, gradients=True) and gate_D.dtype == up_D.dtype):
        return reference.glu(gate_D, up_D, activation)
    return _Glu.apply(gate_D, up_D, activation == "gelu")


def add_scaled(x_D: Tensor, y_D: Tensor, scale: float) -> Tensor:
    """Native implementation of `ops.add_scaled`."""
    if not (takes(x_D, y_D, gradients=True) and x_D.dtype == torch.float32):
        return reference.add_scaled(x_D, y_D, scale)
    return _AddScaled.apply(x_D, y_D, scale)


class _Glu(torch.autograd.Function):
    """Autograd function of `glu`: keeps gate and up only, the activation is computed again."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.gelu = gelu
        out = torch.empty(gate.shape, dtype=gate.dtype)
        extension().glu(table(gate), table(up), gelu, table(out), count())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dgate, dup = (torch.empty(gate.shape, dtype=gate.dtype) for _ in range(2))
        extension().glu_backward(table(gate), table(up), ctx.gelu, table(dout), table(dgate), table(dup), count())
        return dgate, dup, None


class _AddScaled(torch.autograd.Function):
    """Autograd function of `add_scaled`: keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: float) -> Tensor:
        ctx.scale, ctx.dtype = scale, y.dtype
        out = torch.empty(x.shape)
        extension().add_scaled(table(x), table(y), scale, table(out), count())
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        scaled = dout if ctx.scale == 1 else dout * ctx.scale
        return dout, scaled.to(ctx.dtype), None
