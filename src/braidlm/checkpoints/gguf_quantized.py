"""Quantized tensors of GGUF files as quantized weights, without going through full precision.

What `gguf.blocks` can take apart is taken apart. Other quantized types are dequantized, one tensor at a time, and
rounded to int8, whose steps are finer than those of the file.

Legend: N = rows (outputs of all experts).
"""

from collections.abc import Sequence

import torch

from ..families import Rule
from ..ops.linear.quantized import QuantizedWeight
from ..ops.linear.round_to_nearest import quantize_weight
from .gguf import GgufFile
from .gguf.blocks import split_blocks
from .rows import row_places, stack_rows, take_rows

_PLAIN = ("F64", "F32", "F16", "BF16")


def is_quantized(file: GgufFile, name: str) -> bool:
    """Whether a tensor is stored in quantized blocks."""
    return file.quantization(name) not in _PLAIN


def keep(
    file: GgufFile, rule: Rule, sources: Sequence[str], shapes: Sequence[torch.Size], dtype: torch.dtype
) -> list[QuantizedWeight] | None:
    """The weights of these `shapes` that `rule` makes of quantized tensors; None if it does more than move rows."""
    if not all(name in file.names() and is_quantized(file, name) for name in sources):
        return None
    places = row_places(rule, [torch.Size(file.shapes[name]) for name in sources], shapes)
    if places is None:
        return None
    parts = [_quantized(file, name, dtype) for name in sources]
    if len({part.kind for part in parts}) > 1:
        parts = [quantize_weight(file.get(name).flatten(0, -2), "int8", dtype=dtype) for name in sources]
    whole = stack_rows(parts)
    return [take_rows(whole, rows_N, shape) for rows_N, shape in zip(places, shapes, strict=True)]


def _quantized(file: GgufFile, name: str, dtype: torch.dtype) -> QuantizedWeight:
    """One quantized tensor as a quantized weight [N, I]."""
    found = split_blocks(file.quantization(name), file.blocks(name), dtype)
    return quantize_weight(file.get(name).flatten(0, -2), "int8", dtype=dtype) if found is None else found
