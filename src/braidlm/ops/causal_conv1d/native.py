"""The convolution in one pass over its inputs, in C++; backward too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together
from ..threads import count
from . import reference


def causal_conv1d(
    x_TC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, state_RCK: Tensor, segments: Segments, *, silu: bool
) -> Carried:
    """Native implementation of `ops.causal_conv1d`."""
    if not (takes(x_TC, weight_CK, bias_C, state_RCK, gradients=True) and x_TC.dtype == state_RCK.dtype):
        return reference.causal_conv1d(x_TC, weight_CK, bias_C, state_RCK, segments, silu=silu)
    weight_KC = weight_CK.t().float().contiguous()
    bias = bias_C.float().contiguous() if bias_C is not None else None

    def step(x_RLC: Tensor, tail_RCK: Tensor) -> tuple[Tensor, Tensor]:
        return _Conv.apply(x_RLC, weight_KC, bias, tail_RCK, silu)

    return over_rows(step, (channels_together(x_TC),), state_RCK, segments)


class _Conv(torch.autograd.Function):
    """Dense rows [R, L, C]: outputs, and the last inputs [R, C, K-1]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tail: Tensor, silu: bool
    ) -> tuple[Tensor, Tensor]:
        length, before = x.shape[1], len(weight) - 1
        tail_RKC = tail.transpose(1, 2).contiguous()
        ctx.save_for_backward(x, weight, bias, tail_RKC)
        ctx.silu = silu
        y = torch.empty(x.shape, dtype=x.dtype)
        shift = bias.detach() if bias is not None else None
        extension().causal_conv1d(x.detach(), weight.detach(), shift, tail_RKC.detach(), silu, y, count())
        last = x[:, length - before :] if length >= before else torch.cat([tail_RKC[:, length:], x], 1)
        # The tail is a copy, so that a carried state never keeps a long prompt's activations alive.
        return y, last.transpose(1, 2).clone(memory_format=torch.contiguous_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, tail = ctx.saved_tensors
        length, (taps, channels) = x.shape[1], weight.shape
        dx = torch.empty(x.shape, dtype=x.dtype)
        dtail, dweight = torch.empty(tail.shape), torch.empty(taps + 1, channels)
        shift = bias.detach() if bias is not None else None
        given = (x.detach(), weight.detach(), shift, tail.detach(), ctx.silu, dy.contiguous())
        extension().causal_conv1d_backward(*given, dx, dtail, dweight, count())
        dlast_RKC = dlast.transpose(1, 2)
        of_tail = max(taps - 1 - length, 0)
        dtail[:, taps - 1 - of_tail :] += dlast_RKC[:, :of_tail]
        dx[:, length - (taps - 1 - of_tail) :] += dlast_RKC[:, of_tail:]
        dbias = dweight[taps] if bias is not None else None
        return dx, dweight[:taps], dbias, dtail.transpose(1, 2).to(tail.dtype), None
