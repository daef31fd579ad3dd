"""Blocks of quantized GGUF tensors, and quantized weights: the same numbers side by side or apart.

Q8_0, Q4_0 and Q4_1 are the quantized forms with their parts side by side: taking them apart and putting them together
changes no bit. Q4_K has scales that are products; they are rounded once, to half precision.

Legend: N = rows, I = inputs.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...ops.linear.quantized import GROUP, QuantizedWeight

_SUPERBLOCK = 256


Parts = tuple[str, Tensor, Tensor, Tensor | None]


def split_blocks(kind: str, raw: np.ndarray, dtype: torch.dtype) -> QuantizedWeight | None:
    """Splits rows of a storage type, [N, bytes], into a weight [N, I]; None if the type is no weight format."""
    split = _SPLIT.get(kind)
    if split is None:
        return None
    weight_format, data, scale, low = split(raw)
    return QuantizedWeight(weight_format, data, scale, low, dtype=dtype)


def storage_of(weight: QuantizedWeight) -> str | None:
    """The storage type that holds a quantized weight as it is; None if there is none."""
    return _STORAGE.get(weight.kind)


def join_blocks(weight: QuantizedWeight) -> Tensor:
    """Joins a weight to the bytes of its `storage_of`, [..., bytes a row]: the same bits, blocks side by side."""
    heads = [part for part in (weight.scale, weight.low) if part is not None]
    # By pairs of bytes, of which all parts consist: half the copies.
    numbers = weight.data.view(torch.int16).unflatten(-1, (weight.scale.shape[-1], -1))
    blocks = numbers.new_empty(*numbers.shape[:-1], len(heads) + numbers.shape[-1])
    for place, part in enumerate(heads):
        blocks[..., place] = part.view(torch.int16)
    blocks[..., len(heads) :] = numbers
    return blocks.view(torch.uint8).flatten(-2)


def _blocks(raw: np.ndarray, heads: int, data: int) -> tuple[list[Tensor], Tensor]:
    """Blocks of half-precision numbers before bytes: each of the numbers [N, G], and the bytes side by side."""
    layout = np.dtype([*((f"head{i}", "<f2") for i in range(heads)), ("data", f"V{data}")])
    blocks = np.ascontiguousarray(raw).view(layout)
    numbers = [torch.from_numpy(np.ascontiguousarray(blocks[f"head{i}"])) for i in range(heads)]
    return numbers, torch.from_numpy(np.ascontiguousarray(blocks["data"]).view(np.uint8))


def _q8_0(raw: np.ndarray) -> Parts:
    (scale,), data = _blocks(raw, 1, GROUP)
    return "int8", data.view(torch.int8), scale, None


def _q4_0(raw: np.ndarray) -> Parts:
    (scale,), data = _blocks(raw, 1, GROUP // 2)
    return "int4", data, scale, None


def _q4_1(raw: np.ndarray) -> Parts:
    (scale, low), data = _blocks(raw, 2, GROUP // 2)
    return "int4", data, scale, low


def _halves(raw: np.ndarray) -> Tensor:
    """Pairs of bytes as half-precision numbers."""
    return torch.from_numpy(np.ascontiguousarray(raw)).view(torch.float16)


def _q4_k(raw: np.ndarray) -> Parts:
    """Parts of superblocks: two half-precision factors, 12 bytes of 6-bit scales and lows, 8 groups of half bytes."""
    blocks = raw.reshape(len(raw), -1, 4 + 12 + _SUPERBLOCK // 2)
    factors = _halves(blocks[..., :4]).float()
    small = torch.from_numpy(np.ascontiguousarray(blocks[..., 4:16])).view(*blocks.shape[:2], 3, 4)
    first, second, mixed = small.unbind(-2)
    # Groups 0 to 3 have their 6 bits in one byte; 4 to 7 four bits in the last third and two atop the others.
    scales = torch.cat([first & 63, (mixed & 15) | (first >> 6 << 4)], -1)
    lows = torch.cat([second & 63, (mixed >> 4) | (second >> 6 << 4)], -1)
    # 32 bytes hold one group in their low halves and the next one in their high halves.
    pairs = torch.from_numpy(np.ascontiguousarray(blocks[..., 16:])).unflatten(-1, (4, GROUP))
    steps = torch.stack([pairs & 15, pairs >> 4], -2)
    data = steps[..., : GROUP // 2] | (steps[..., GROUP // 2 :] << 4)
    scale = (factors[..., :1] * scales).half().flatten(-2)
    low = (-factors[..., 1:] * lows).half().flatten(-2)
    return "int4", data.flatten(1), scale, low


_SPLIT: dict[str, Callable[[np.ndarray], Parts]] = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k}
_STORAGE = {"int8": "Q8_0", "int4": "Q4_0", "int4-low": "Q4_1"}
