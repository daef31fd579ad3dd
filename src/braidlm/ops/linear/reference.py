"""Linear layers by torch's own matrix product (oneDNN on a CPU).

Quantized weights are dequantized, a tile of outputs at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .quantized import QuantizedWeight, tile_rows

SCRATCH_BYTES = 64 << 20
# A number in a tile as bytes, as float32, and rounded to the dtype of the product.
_BYTES_A_NUMBER = 2 + 4 + 4


def linear(x_I: Tensor, weight_OI: Tensor | QuantizedWeight, bias_O: Tensor | None) -> Tensor:
    """Reference implementation of `ops.linear`."""
    if isinstance(weight_OI, Tensor):
        return F.linear(x_I, weight_OI, bias_O)
    size = tile_rows(weight_OI.shape, _BYTES_A_NUMBER, SCRATCH_BYTES)
    outputs = weight_OI.shape[0]
    if outputs <= size:
        return F.linear(x_I, weight_OI.dequantize(x_I.dtype), bias_O)
    parts = []
    for begin in range(0, outputs, size):
        tile = slice(begin, begin + size)
        bias = None if bias_O is None else bias_O[tile]
        parts.append(F.linear(x_I, weight_OI[tile].dequantize(x_I.dtype), bias))
    return torch.cat(parts, -1)
