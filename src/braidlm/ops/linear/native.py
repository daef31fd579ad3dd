"""Linear layers in C++: quantized weights dequantized a tile of outputs at a time, multiplied by torch.

Where the processor cannot multiply bfloat16 (see `ops.products`), a kernel here multiplies too, plain weights as well
as quantized ones.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...system.dtypes import name_of
from ..native_loader import extension, takes
from ..products import mm, widens
from ..strides import table
from ..threads import count
from . import reference
from .quantized import QuantizedWeight, tile_rows

_TILE_DTYPES = (torch.float32, torch.bfloat16)
# Up to so many rows torch's products of bfloat16 wait for memory alone, whatever the processor can multiply.
_FEW = 2


def held(weight: Tensor | QuantizedWeight) -> Any:
    """The extension's view of a matrix [O, I] or experts' matrices [X, O, I], without a copy."""
    *experts, outputs, inputs = weight.shape
    several = experts[0] if experts else 1
    if isinstance(weight, Tensor):
        weight_format = name_of(weight.dtype)
        return extension().Weight(weight_format, weight.detach().contiguous(), None, None, outputs, inputs, several)
    data = weight.data.view(torch.uint8) if weight.weight_format == "fp8" else weight.data
    return extension().Weight(weight.weight_format, data, weight.scale, weight.low, outputs, inputs, several)


def linear(x_I: Tensor, weight_OI: Tensor | QuantizedWeight, bias_O: Tensor | None) -> Tensor:
    """Native implementation of `ops.linear`."""
    if isinstance(weight_OI, Tensor) and not (widens(x_I) and x_I.numel() > _FEW * x_I.shape[-1]):
        return F.linear(x_I, weight_OI, bias_O)
    if not (takes(x_I, gradients=True) and x_I.dtype in _TILE_DTYPES and weight_OI.device.type == "cpu"):
        return reference.linear(x_I, weight_OI, bias_O)
    product = _Wide if isinstance(weight_OI, Tensor) else _Product
    y = product.apply(x_I.reshape(-1, x_I.shape[-1]), weight_OI).view(*x_I.shape[:-1], weight_OI.shape[0])
    return y if bias_O is None else y + bias_O


class _Wide(torch.autograd.Function):
    """x [M, I] in bfloat16 times a plain weight, and its gradients, in float32 inside."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_MI, weight_OI)
        return _wide(x_MI, weight_OI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_MO: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_MI, weight_OI = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return mm(dy_MO, weight_OI) if wanted[0] else None, mm(dy_MO.t(), x_MI) if wanted[1] else None


class _Product(torch.autograd.Function):
    """x [M, I] times a quantized weight. Nothing of the weight's full size is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, weight: QuantizedWeight) -> Tensor:
        ctx.weight = weight
        if widens(x_MI):
            return _wide(x_MI, weight)
        y_MO = x_MI.new_empty(len(x_MI), weight.shape[0])
        for begin, tile_OI in _tiles(weight, x_MI.dtype):
            torch.mm(x_MI, tile_OI.t(), out=y_MO[:, begin : begin + len(tile_OI)])
        return y_MO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_MO: Tensor) -> tuple[Tensor, None]:
        dx_MI = torch.zeros(len(dy_MO), ctx.weight.shape[1])
        for begin, tile_OI in _tiles(ctx.weight, dy_MO.dtype):
            dx_MI += mm(dy_MO[:, begin : begin + len(tile_OI)], tile_OI)
        return dx_MI.to(dy_MO.dtype), None


def _wide(x_MI: Tensor, weight: Tensor | QuantizedWeight) -> Tensor:
    """The product in float32, each sum rounded once; the weight is widened where it is multiplied."""
    y_MO = x_MI.new_empty(len(x_MI), weight.shape[0])
    held(weight).multiply(table(x_MI), y_MO, count())
    return y_MO


def _tiles(weight: QuantizedWeight, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """(first output, [outputs, I]) for tiles of a weight; each is overwritten by the next."""
    outputs, inputs = weight.shape
    size = min(outputs, tile_rows(weight.shape, dtype.itemsize, reference.SCRATCH_BYTES))
    native, scratch = held(weight), torch.empty(size, inputs, dtype=dtype)
    for begin in range(0, outputs, size):
        tile = scratch[: min(size, outputs - begin)]
        native.expand(begin, tile, count())
        yield begin, tile
