"""Causal convolution as K shifted multiply-adds over the whole sequence."""

import torch.nn.functional as F
from torch import Tensor, cat, contiguous_format

from ..numerics import widened
from ..segments import Carried, Segments, over_rows


def causal_conv1d(
    x_TC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, state_RCK: Tensor, segments: Segments, *, silu: bool
) -> Carried:
    """Reference implementation of `ops.causal_conv1d`; each row with its tail in front, one shifted product a tap."""
    weight_KC = widened(weight_CK).t().contiguous()
    taps = weight_KC.shape[0]
    bias = widened(bias_C) if bias_C is not None else weight_KC.new_zeros(weight_KC.shape[1])

    def step(x_RLC: Tensor, tail_RCK: Tensor) -> tuple[Tensor, Tensor]:
        padded = cat([tail_RCK.transpose(1, 2).to(x_RLC.dtype), x_RLC], 1)
        length = x_RLC.shape[1]
        wide = widened(padded)
        y = bias.addcmul(wide[:, :length], weight_KC[0])
        for tap in range(1, taps):
            y = y.addcmul(wide[:, tap : tap + length], weight_KC[tap])
        y = (F.silu(y) if silu else y).to(x_RLC.dtype)
        # The tail is a copy, so that a carried state never keeps a long prompt's activations alive.
        return y, padded[:, length:].transpose(1, 2).clone(memory_format=contiguous_format)

    return over_rows(step, (x_TC,), state_RCK, segments)
