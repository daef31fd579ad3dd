"""Residues of given poles: linear least squares over all positions but the first, which a free tap takes.

Legend: F = filters, L = positions from the second, M = modes, P = 2M: real, then imaginary parts.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.gated_conv.reference import powers

# What one unit of a residue costs, as a part of its mode's norm: recurrences in float32 round by about that much, so
# that large residues which cancel each other would be worse than they look.
RIDGE = 1e-6


class Solved(NamedTuple):
    """Modes of filters with the best residues, by a ridge; every tensor has a row for each filter.

    The columns are the powers of the poles as modes of norm one, real parts, then negative imaginary ones; norms_FM are
    their norms before. rest_FL is what the modes leave of the filters, factor_FPP that of the columns' Gram matrix.
    """

    poles_FM: Tensor
    norms_FM: Tensor
    units_FML: Tensor
    columns_FLP: Tensor
    x_FP: Tensor
    rest_FL: Tensor
    factor_FPP: Tensor

    @property
    def residues_FM(self) -> Tensor:
        """Residues, complex128."""
        return torch.complex(*self.x_FP.chunk(2, 1)) / self.norms_FM

    def cost_F(self, ridge: float) -> Tensor:
        """Squared error, with what the residues' size costs."""
        return self.rest_FL.square().sum(1) + ridge**2 * self.x_FP.square().sum(1)


def solve(poles_FM: Tensor, taps_FL: Tensor, ridge: float) -> Solved:
    """Residues whose modes are nearest to the filters, which are given from their second position on."""
    units_FML = powers(poles_FM, taps_FL.shape[1] + 1)
    norms_FM = units_FML.abs().square().sum(2).sqrt()
    units_FML = units_FML[:, :, 1:] / norms_FM[..., None]
    columns_FLP = torch.cat([units_FML.real, -units_FML.imag], 1).mT
    factor_FPP = _factor(columns_FLP, ridge)
    x_FP, rest_FL = torch.zeros_like(columns_FLP[:, 0]), taps_FL
    for _ in range(2):  # the second round corrects what the Gram matrix's rounding cost the first
        right_FP = (rest_FL[:, None] @ columns_FLP)[:, 0] - ridge**2 * x_FP
        x_FP = x_FP + torch.cholesky_solve(right_FP[..., None], factor_FPP)[..., 0]
        rest_FL = taps_FL - (columns_FLP @ x_FP[..., None])[..., 0]
    return Solved(poles_FM, norms_FM, units_FML, columns_FLP, x_FP, rest_FL, factor_FPP)


def _factor(columns_FLP: Tensor, ridge: float) -> Tensor:
    """Cholesky factor of the Gram matrix of the columns, with the ridge."""
    gram_FPP = columns_FLP.mT @ columns_FLP
    diagonal_FP = gram_FPP.diagonal(dim1=1, dim2=2)
    diagonal_FP += ridge**2
    factor_FPP, failed_F = torch.linalg.cholesky_ex(gram_FPP)
    if failed_F.any():  # by rounding
        diagonal_FP += 1e3 * ridge**2
        factor_FPP = torch.linalg.cholesky(gram_FPP)
    return factor_FPP
