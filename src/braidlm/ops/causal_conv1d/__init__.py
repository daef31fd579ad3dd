"""Depthwise causal convolution over packed rows.

    y[t, c] = act(bias[c] + sum_j weight[c, j] * x[t - (K - 1) + j, c])

The last tap multiplies the newest sample; samples before a row's start come from its state.
Legend: T = packed tokens, R = rows, C = channels, K = taps.
"""

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from ..segments import Carried, Segments
from . import native, reference

dispatch.register("causal_conv1d", "reference", reference.causal_conv1d)
dispatch.register("causal_conv1d", "native", native.causal_conv1d, why_not)


def causal_conv1d(
    x_TC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, state_RCK: Tensor, segments: Segments, *, silu: bool
) -> Carried:
    """Convolves each row and carries its last K-1 inputs.

    `state_RCK` [R, C, K-1] holds the inputs before the rows, oldest first, in x's dtype; sums are
    in float32 (float64 for float64 inputs). `silu` applies x * sigmoid(x) to the result.
    """
    implementation = dispatch.select("causal_conv1d", x_TC.device.type)
    return implementation(x_TC, weight_CK, bias_C, state_RCK, segments, silu=silu)
