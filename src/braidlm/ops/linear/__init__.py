"""Matrix product with a weight stored [out, in].

Legend: I = inputs, O = outputs.
"""

from torch import Tensor

from .. import dispatch
from . import reference

dispatch.register("linear", "reference", reference.linear)


def linear(x_I: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x W^T + bias, in x's dtype."""
    return dispatch.select("linear", x_I.device.type)(x_I, weight_OI, bias_O)
