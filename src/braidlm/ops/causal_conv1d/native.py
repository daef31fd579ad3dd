"""The convolution in one pass over its inputs, in C++."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together, plain
from ..threads import count
from . import reference


def causal_conv1d(
    x_TC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, state_RCK: Tensor, segments: Segments, *, silu: bool
) -> Carried:
    """See the package."""
    if not (takes(x_TC, weight_CK, bias_C, state_RCK) and x_TC.dtype == state_RCK.dtype):
        return reference.causal_conv1d(x_TC, weight_CK, bias_C, state_RCK, segments, silu=silu)
    weight_KC = plain(weight_CK.t())
    bias = plain(bias_C) if bias_C is not None else None
    before = len(weight_KC) - 1

    def step(x_RLC: Tensor, tail_RCK: Tensor) -> tuple[Tensor, Tensor]:
        tail_RKC = tail_RCK.transpose(1, 2).contiguous()
        y = torch.empty(x_RLC.shape, dtype=x_RLC.dtype)
        extension().causal_conv1d(x_RLC, weight_KC, bias, tail_RKC, silu, y, count())
        length = x_RLC.shape[1]
        last = x_RLC[:, length - before :] if length >= before else torch.cat([tail_RKC[:, length:], x_RLC], 1)
        # The tail is a copy, so that a carried state never keeps a long prompt's activations alive.
        return y, last.transpose(1, 2).clone(memory_format=torch.contiguous_format)

    return over_rows(step, (channels_together(x_TC.detach()),), state_RCK.detach(), segments)
