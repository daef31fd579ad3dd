"""Matrix products of bfloat16 numbers, in float32 where the processor cannot multiply bfloat16.

Without instructions for it (AVX-512 BF16, AMX; BF16 of ARM) torch imitates them, at a fifth of the speed of float32.
Products of two bfloat16 numbers are exact in float32, and so widened tiles give what the instructions would give, up
to the order of a sum.

Legend: M = rows, N = columns, K = terms of a sum.
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from .native_loader import native

# A tile of the product has 4 MiB, those of both sides 16.
_SIDE, _TERMS = 1024, 4096
# Below so many rows float32 products are several times faster the other way round.
_FEW = 64


@torch.no_grad()  # on every processor: torch.mm alone refuses to write where gradients are asked for
def mm(a_MK: Tensor, b_KN: Tensor, out: Tensor | None = None) -> Tensor:
    """Matrix product a b in a's dtype, each sum rounded once; `b_KN` may be wider than `a_MK`. No gradients."""
    if out is None:
        out = a_MK.new_empty(a_MK.shape[0], b_KN.shape[1])
    if not widens(a_MK):
        return torch.mm(a_MK, b_KN, out=out)
    for rows in _slices(a_MK.shape[0], _SIDE):
        for columns in _slices(b_KN.shape[1], _SIDE):
            out[rows, columns] = _product(a_MK[rows], b_KN[:, columns])
    return out


def widens(x: Tensor) -> bool:
    """Whether products with `x` are made in float32 although it is narrower."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not _multiplies_bfloat16()


@functools.cache
def _multiplies_bfloat16() -> bool:
    module = native()[0]
    return module is None or not {"avx512bf16", "bf16"}.isdisjoint(module.cpu_features())


def _product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """Product of two tiles in float32, summed over slices of terms."""
    y_MN: Tensor | None = None
    for terms in _slices(a_MK.shape[1], _TERMS):
        a, b = a_MK[:, terms].float(), b_KN[terms].float()
        part = a @ b if len(a) >= _FEW else (b.t() @ a.t()).t()
        y_MN = part if y_MN is None else y_MN.add_(part)
    return a_MK.new_zeros(len(a_MK), b_KN.shape[1]) if y_MN is None else y_MN


def _slices(size: int, most: int) -> Iterator[slice]:
    for begin in range(0, size, most):
        yield slice(begin, min(begin + most, size))
