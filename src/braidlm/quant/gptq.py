"""GPTQ: quantization to int4 or int8 that keeps a layer's outputs close on text, not each weight by itself.

A layer with weights W had the inputs Y in the original model and has X in one whose earlier layers
are rounded. The error of rounded weights V is |W Y - V X|^2, which is (U - V) H (U - V)^T and a rest
that no V can change, with H = X X^T and U = W Y X^T H^-1. So U is what is rounded, and V also makes up
for the errors before it (asymmetric calibration, Li et al. 2025, "GPTAQ").

Columns are rounded one after the other, and each error is passed on to the columns that follow in the
way that H says (Frantar et al. 2022, "GPTQ", section 3); a group's scales are searched when it is
reached, its columns counted by how little the others can make up for them. Then alternately the scales
are fitted to the steps, exactly, and the steps to the scales, column by column.

Legend: O = outputs, I = inputs, G = groups of a row, T = tokens.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.linear.quantized import GROUP, QuantizedWeight, nibbles
from ..ops.linear.round_to_nearest import int4_scales, int8_scales

# Added to the diagonal of H, as a share of its mean: directions that the text never took count a little.
_DAMPING = 0.1
_SWEEPS = 2
# Rows whose scales are fitted at a time, in numbers of their systems of equations.
_FIT_NUMBERS = 16 << 20


class Products(NamedTuple):
    """Sums over tokens, [I, I]: of the inputs' products with each other, and of the original inputs' with them."""

    own: Tensor
    crossed: Tensor


class _Grid(NamedTuple):
    """Steps of a format: least and largest, a group's scales by its inputs' counts, and how steps are stored."""

    least: int
    largest: int
    scales: Callable[[Tensor, Tensor], Tensor]
    stored: Callable[[Tensor], Tensor]

    def nearest_(self, q: Tensor) -> Tensor:
        """Rounds to the nearest steps, in place."""
        return q.round_().clamp_(self.least, self.largest)


_GRIDS = {
    "int4": _Grid(-8, 7, int4_scales, lambda q: nibbles((q + 8).to(torch.uint8))),
    # Of 255 steps the largest number's is as good a scale as any.
    "int8": _Grid(-127, 127, lambda w, _: int8_scales(w), lambda q: q.to(torch.int8)),
}
CALIBRATED_FORMATS = tuple(_GRIDS)


def quantize_calibrated(
    weight_OI: Tensor, products: Products, weight_format: str, *, dtype: torch.dtype
) -> QuantizedWeight:
    """Quantizes to one of `CALIBRATED_FORMATS`, outputs close to the original ones on the inputs of `products`.

    `dtype` is that of the activations, as in `quantize_weight`.
    """
    grid = _GRIDS[weight_format]
    damping = _damping(products.own)
    h, crossed = (_damped(part.float(), damping) for part in products)
    # Damped alike, so that where both inputs are the same the weight stays as it is.
    w = (weight_OI.detach().double() @ torch.linalg.solve(h.double(), crossed.double().T).T).float()
    q, scale = _passed_on(w, h, grid)
    for _ in range(_SWEEPS):
        scale = _fitted(w, q, h)
        q = _swept(w, q, scale, h, grid)
    return QuantizedWeight(weight_format, grid.stored(q), scale, dtype=dtype)


def _damping(h_II: Tensor) -> float:
    mean = float(h_II.diagonal().mean())
    # Without any input (an expert that no token chose) every column counts the same.
    return _DAMPING * mean if mean > 0 else 1.0


def _damped(sums_II: Tensor, damping: float) -> Tensor:
    sums = sums_II.clone()
    sums.diagonal().add_(damping)
    return sums


def _passed_on(w_OI: Tensor, h_II: Tensor, grid: _Grid) -> tuple[Tensor, Tensor]:
    """Steps [O, I] as floats, and scales [O, G]."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h_II.double()))
    # Row i: how an error in column i is made up for by the columns after it, all before it being settled.
    u = torch.linalg.cholesky(inverse, upper=True).float()
    counted = u.diagonal() ** -2
    w, q = w_OI.clone(), torch.empty_like(w_OI)
    scales = []
    for begin in range(0, w.shape[1], GROUP):
        end = begin + GROUP
        scale = grid.scales(w[:, begin:end], counted[begin:end])
        wide, inverse_scale = scale[:, 0].float(), _inverse(scale)[:, 0]
        errors = torch.empty_like(w[:, begin:end])
        for i in range(begin, end):
            q[:, i] = grid.nearest_(w[:, i] * inverse_scale)
            errors[:, i - begin] = (w[:, i] - q[:, i] * wide) / u[i, i]
            w[:, i:end].addr_(errors[:, i - begin], u[i, i:end], alpha=-1)
        w[:, end:].addmm_(errors, u[begin:end, end:], alpha=-1)
        scales.append(scale)
    return q, torch.cat(scales, -1)


def _fitted(w_OI: Tensor, q_OI: Tensor, h_II: Tensor) -> Tensor:
    """The best scales for given steps: each row's least squares, G equations."""
    groups = w_OI.shape[1] // GROUP
    size = max(1, _FIT_NUMBERS // max(groups * groups, w_OI.shape[1]))
    found = [_fit(w, q, h_II) for w, q in zip(w_OI.split(size), q_OI.split(size), strict=True)]
    return torch.cat(found)


def _fit(w_OI: Tensor, q_OI: Tensor, h_II: Tensor) -> Tensor:
    def by_group(x_OI: Tensor) -> Tensor:
        return (x_OI * q_OI).unflatten(-1, (-1, GROUP)).sum(-1)

    parts = zip(q_OI.split(GROUP, -1), h_II.split(GROUP), strict=True)
    system_OGG = torch.stack([by_group(q @ h) for q, h in parts], 1).double()
    diagonal = system_OGG.diagonal(dim1=-2, dim2=-1)
    # A group whose steps are all zero has no equation; its scale stays 0.
    diagonal.add_(1e-7 * diagonal.mean(-1, keepdim=True)).add_((diagonal == 0).double())
    wanted_OG = by_group(w_OI @ h_II).double()
    return torch.linalg.solve(system_OGG, wanted_OG).half()


def _swept(w_OI: Tensor, q_OI: Tensor, scale_OG: Tensor, h_II: Tensor, grid: _Grid) -> Tensor:
    """Every column's best steps in turn, the others being as they are."""
    q, wide, inverse_scale = q_OI.clone(), scale_OG.float(), _inverse(scale_OG)
    slope = (w_OI - q * wide.repeat_interleave(GROUP, -1)) @ h_II
    diagonal = h_II.diagonal()
    for group, begin in enumerate(range(0, w_OI.shape[1], GROUP)):
        end = begin + GROUP
        near, block = slope[:, begin:end].clone(), h_II[begin:end, begin:end]
        moved = torch.empty_like(near)
        for i in range(GROUP):
            old = q[:, begin + i]
            new = grid.nearest_(old + near[:, i] / diagonal[begin + i] * inverse_scale[:, group])
            moved[:, i] = (new - old) * wide[:, group]
            q[:, begin + i] = new
            near.addr_(moved[:, i], block[i], alpha=-1)
        slope.addmm_(moved, h_II[begin:end], alpha=-1)
    return q


def _inverse(scale: Tensor) -> Tensor:
    wide = scale.float()
    return torch.where(wide == 0, 0.0, 1 / wide)
