"""Quantized weights: their layouts, and the numbers that they stand for.

Groups are 32 consecutive inputs of one output row. The formats:

- int8: w = scale q, q a signed byte. The layout of GGUF's Q8_0, numbers and scales apart.
- int4: w = scale q + low, q from 0 to 15; without low w = scale (q - 8). A group takes 16 bytes,
  byte j with weight j in its low half and weight j + 16 in its high half, as in GGUF's Q4_0 and Q4_1.
- fp8: w = scale q, q an e4m3 number, one float32 scale an output row.

Legend: O = outputs, I = inputs, X = experts, G = groups of a row (I / 32).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_FORMATS = ("int8", "int4", "fp8")
KINDS = (*WEIGHT_FORMATS, "int4-low")  # a format, with lows or without
GROUP = 32

_DATA = {"int8": torch.int8, "int4": torch.uint8, "fp8": torch.float8_e4m3fn}


class QuantizedWeight(nn.Module):
    """Quantized weight [..., O, I] (leading dimension: experts) in one of `WEIGHT_FORMATS`; takes a parameter's place.

    data: int8 [..., O, I], uint8 [..., O, I/2] or float8_e4m3fn [..., O, I]. scale: float16
    [..., O, G], or float32 [..., O] for fp8. low: float16 [..., O, G], int4 only, or None. All
    contiguous. `dtype` is what it is computed with: that of the model's activations.
    """

    data: Tensor
    scale: Tensor
    low: Tensor | None

    def __init__(
        self,
        weight_format: str,
        data: Tensor,
        scale: Tensor,
        low: Tensor | None = None,
        *,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.weight_format = weight_format
        self.dtype = dtype
        self.register_buffer("data", data)
        self.register_buffer("scale", scale)
        self.register_buffer("low", low)

    @property
    def kind(self) -> str:
        """Kind of the weight: its format, with "-low" where groups have a low of their own."""
        return self.weight_format if self.low is None else f"{self.weight_format}-low"

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight that this one stands for, [..., O, I]."""
        *rows, stored = self.data.shape
        return torch.Size([*rows, stored * 2 if self.weight_format == "int4" else stored])

    def numel(self) -> int:
        """Number of weights."""
        return self.shape.numel()

    @property
    def device(self) -> torch.device:
        """Device of the numbers."""
        return self.data.device

    @property
    def nbytes(self) -> int:
        """Bytes of numbers, scales and lows."""
        return sum(part.nbytes for part in self.buffers())

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Dequantizes to [..., O, I]: scale q + low in float32, rounded once to `dtype` (its own by default)."""
        return _values(self.weight_format, self.data, self.scale, self.low).to(dtype or self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the first dimension, dequantized: [*ids, ..., I]."""
        low = None if self.low is None else self.low[ids]
        return _values(self.weight_format, self.data[ids], self.scale[ids], low).to(self.dtype)

    def __getitem__(self, index: int | slice) -> "QuantizedWeight":
        """A part of the first dimension (one expert, some outputs) that shares this one's memory."""
        low = None if self.low is None else self.low[index]
        return QuantizedWeight(self.weight_format, self.data[index], self.scale[index], low, dtype=self.dtype)

    def extra_repr(self) -> str:
        """Shape and kind, as a printed model shows them."""
        return f"{list(self.shape)}, {self.kind}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedWeight":
        # A model that is moved takes its weights along; one that is cast keeps its formats.
        for name, part in list(self._buffers.items()):
            if part is not None:
                self._buffers[name] = part.to(fn(part).device)
        return self


def quantizable(shape: torch.Size | tuple[int, ...], weight_format: str) -> bool:
    """Whether a weight of this shape can be quantized to `weight_format`: it is a matrix of whole groups."""
    return len(shape) > 1 and 0 not in shape and (weight_format == "fp8" or shape[-1] % GROUP == 0)


def empty_quantized(shape: torch.Size | tuple[int, ...], kind: str, **options: Any) -> QuantizedWeight:
    """A quantized weight whose numbers are still to be filled in; `options` are those of `torch.empty`, but dtype."""
    dtype = options.pop("dtype", torch.bfloat16)
    weight_format, _, low = kind.partition("-")
    *rows, inputs = shape
    data = torch.empty(*rows, inputs // 2 if weight_format == "int4" else inputs, dtype=_DATA[weight_format], **options)
    if weight_format == "fp8":
        return QuantizedWeight(weight_format, data, torch.empty(*rows, dtype=torch.float32, **options), dtype=dtype)
    parts = [torch.empty(*rows, inputs // GROUP, dtype=torch.float16, **options) for _ in range(2 if low else 1)]
    return QuantizedWeight(weight_format, data, *parts, dtype=dtype)


def quantized_bytes(shape: torch.Size | tuple[int, ...], kind: str) -> int:
    """Bytes of a quantized weight of this shape."""
    return empty_quantized(shape, kind, device="meta").nbytes


def nibbles(q: Tensor) -> Tensor:
    """Stores steps 0 to 15, [..., I] uint8, as the bytes of int4, [..., I/2]."""
    low, high = q.unflatten(-1, (-1, 2, GROUP // 2)).unbind(-2)
    return (low | (high << 4)).flatten(-2)


def steps(data: Tensor) -> Tensor:
    """Steps 0 to 15 in bytes of int4: [..., I/2] -> [..., I] uint8; the inverse of `nibbles`."""
    halves = data.unflatten(-1, (-1, GROUP // 2))
    return torch.cat([halves & 15, halves >> 4], -1).flatten(-2)


def _values(weight_format: str, data: Tensor, scale: Tensor, low: Tensor | None) -> Tensor:
    """Dequantized numbers in float32, in which every product here is exact but that of fp8."""
    if weight_format == "fp8":
        return data.float() * scale[..., None]
    q = (data if weight_format == "int8" else steps(data)).float()
    if weight_format == "int4" and low is None:
        q -= 8
    groups = q.unflatten(-1, (-1, GROUP)).mul_(scale.float()[..., None])
    if low is not None:
        groups += low.float()[..., None]
    return groups.flatten(-2)


def tile_rows(shape: torch.Size, bytes_a_number: int, limit: int) -> int:
    """Number of rows of a matrix that fit into `limit` bytes; at least one."""
    return max(1, limit // (bytes_a_number * max(1, math.prod(shape[1:]))))
