"""Quantized tensors of GGUF files as packed weights, without going through full precision.

Q8_0, Q4_0 and Q4_1 are the packed forms with their parts side by side: taking them apart changes no
bit. Q4_K has scales that are products; they are rounded once, to half precision. Other quantized
types are dequantized, one tensor at a time, and rounded to int8, whose steps are finer than theirs.

Legend: N = rows (outputs of all experts), G = groups of a row.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .checkpoints.rows import row_places, stack_rows, take_rows
from .families import Rule
from .gguf import GgufFile
from .ops.linear.nearest import pack
from .ops.linear.packed import GROUP, PackedWeight

_PLAIN = ("F64", "F32", "F16", "BF16")
_SUPERBLOCK = 256


def is_quantized(file: GgufFile, name: str) -> bool:
    """Whether a tensor is stored in blocks."""
    return file.quantization(name) not in _PLAIN


def keep(
    file: GgufFile, rule: Rule, theirs: Sequence[str], shapes: Sequence[torch.Size], dtype: torch.dtype
) -> list[PackedWeight] | None:
    """The weights of these `shapes` that `rule` makes of quantized tensors; None if it does more than move rows."""
    if not all(name in file.names() and is_quantized(file, name) for name in theirs):
        return None
    places = row_places(rule, [torch.Size(file.shapes[name]) for name in theirs], shapes)
    if places is None:
        return None
    parts = [_packed(file, name, dtype) for name in theirs]
    if len({part.kind for part in parts}) > 1:
        parts = [pack(file.get(name).flatten(0, -2), "int8", dtype=dtype) for name in theirs]
    whole = stack_rows(parts)
    return [take_rows(whole, rows_N, shape) for rows_N, shape in zip(places, shapes, strict=True)]


def _packed(file: GgufFile, name: str, dtype: torch.dtype) -> PackedWeight:
    """One tensor as [N, I]."""
    split = _SPLIT.get(file.quantization(name))
    if split is None:
        return pack(file.get(name).flatten(0, -2), "int8", dtype=dtype)
    form, data, scale, low = split(file.blocks(name))
    return PackedWeight(form, data, scale, low, dtype=dtype)


Split = tuple[str, Tensor, Tensor, Tensor | None]


def _halves(raw: np.ndarray) -> Tensor:
    """Pairs of bytes as half-precision numbers."""
    return torch.from_numpy(np.ascontiguousarray(raw)).view(torch.float16)


def _bytes(raw: np.ndarray) -> Tensor:
    """The blocks' numbers side by side, [N, bytes]."""
    return torch.from_numpy(np.ascontiguousarray(raw)).flatten(-2)


def _q8_0(raw: np.ndarray) -> Split:
    blocks = raw.reshape(len(raw), -1, 2 + GROUP)
    return "int8", _bytes(blocks[..., 2:]).view(torch.int8), _halves(blocks[..., :2])[..., 0], None


def _q4_0(raw: np.ndarray) -> Split:
    blocks = raw.reshape(len(raw), -1, 2 + GROUP // 2)
    return "int4", _bytes(blocks[..., 2:]), _halves(blocks[..., :2])[..., 0], None


def _q4_1(raw: np.ndarray) -> Split:
    blocks = raw.reshape(len(raw), -1, 4 + GROUP // 2)
    scale, low = _halves(blocks[..., :4]).unbind(-1)
    return "int4", _bytes(blocks[..., 4:]), scale.contiguous(), low.contiguous()


def _q4_k(raw: np.ndarray) -> Split:
    """Superblocks: two half-precision factors, 12 bytes of 6-bit scales and lows, 8 groups of half bytes."""
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


_SPLIT: dict[str, Callable[[np.ndarray], Split]] = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k}
