"""Matrix product with a weight stored [out, in], plain or quantized.

Legend: I = inputs, O = outputs.
"""

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from . import native, reference
from .quantized import QuantizedWeight

dispatch.register("linear", "reference", reference.linear)
dispatch.register("linear", "native", native.linear, why_not)


def linear(x_I: Tensor, weight_OI: Tensor | QuantizedWeight, bias_O: Tensor | None = None) -> Tensor:
    """Product x W^T + bias, [..., I] -> [..., O] in x's dtype; a quantized weight is dequantized to that dtype."""
    if isinstance(weight_OI, Tensor):
        weight_OI = weight_OI.to(x_I.dtype)
    bias_O = None if bias_O is None else bias_O.to(x_I.dtype)
    return dispatch.select("linear", x_I.device.type)(x_I, weight_OI, bias_O)
