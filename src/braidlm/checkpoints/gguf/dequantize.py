"""Dequantization of GGUF tensors: the numbers that their blocks stand for, to the bit as the `gguf` package has them.

The native kernels dequantize the common types; the `gguf` package does all others, and those too where there are no
kernels.

Legend: N = rows, I = inputs.
"""

import numpy as np
import torch
from torch import Tensor

from ...ops import dispatch
from ...ops.linear.native import held
from ...ops.linear.quantized import QuantizedWeight, steps
from ...ops.native_loader import why_not
from ...ops.threads import count
from .blocks import split_blocks

_NATIVE = ("Q8_0", "Q4_0", "Q4_1")
_DTYPES = (torch.float32, torch.bfloat16)
# Numbers that are dequantized at a time, and those that are worth a thread: to wait for one takes time too.
_NUMBERS, _OF_A_THREAD = 4 << 20, 1 << 18


def dequantize(kind: str, raw: np.ndarray, out: Tensor, rows_N: np.ndarray | None = None) -> None:
    """Dequantizes rows of a storage type, [rows, bytes a row], into `out` [N, I], rounded once to its dtype.

    `rows_N` are the numbers of the rows to take, in their order; None takes all. Raises `NotImplementedError` for a
    type that cannot be read.
    """
    native = kind in _NATIVE and out.dtype in _DTYPES and dispatch.choice() != "reference" and why_not() is None
    some = max(1, _NUMBERS // max(1, out.shape[1]))
    for begin in range(0, len(out), some):
        part = out[begin : begin + some]
        rows = slice(begin, begin + len(part)) if rows_N is None else rows_N[begin : begin + len(part)]
        (_by_kernel if native else _by_library)(kind, raw[rows], part)


def _by_kernel(kind: str, raw: np.ndarray, out: Tensor) -> None:
    weight = split_blocks(kind, raw, out.dtype)
    assert weight is not None
    if weight.kind == "int4":
        # The kernel would add -8 scales; a product of zero keeps its sign.
        weight = QuantizedWeight("int8", steps(weight.data).view(torch.int8) - 8, weight.scale)
    held(weight).expand(0, out, min(count(), 1 + out.numel() // _OF_A_THREAD))


def _by_library(kind: str, raw: np.ndarray, out: Tensor) -> None:
    import gguf  # noqa: PLC0415 - slow to import, and for rare types alone

    out.copy_(torch.from_numpy(gguf.dequantize(raw, gguf.GGMLQuantizationType[kind])))
