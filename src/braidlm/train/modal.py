"""Fit of a few modes whose sum is nearest to a given filter.

Poles are the eigenvalues of the shift between the rows of the filter's Hankel matrix, in its largest singular
directions (Ho and Kalman 1966; Kung 1978); residues then follow by least squares.

Legend: L = positions, F = filters, M = modes, N, C = rows and columns of the Hankel matrix, K = singular directions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.gated_conv.reference import powers

# Columns of the Hankel matrix, at most: more take long and find no more.
_COLUMNS = 256
_RADIUS = 0.9999
_RIDGE = 1e-9


def fit(filters_FL: Tensor, modes: int) -> tuple[Tensor, Tensor, float]:
    """Poles and residues [F, M], complex64, with h_t nearly sum_m Re(residue_m pole_m^t), and the norm of the error."""
    poles, residues, left = [], [], 0.0
    for filter_L in filters_FL.double():
        pole_M = _poles(filter_L, modes)
        residue_M, rest = _residues(filter_L, pole_M)
        poles.append(pole_M)
        residues.append(residue_M)
        left += rest
    return torch.stack(poles).to(torch.complex64), torch.stack(residues).to(torch.complex64), left**0.5


def _poles(filter_L: Tensor, modes: int) -> Tensor:
    """Poles of one filter: one of each conjugate pair, the strongest ones; zeros where there are fewer."""
    columns = max(1, min(_COLUMNS, len(filter_L) // 2))
    hankel_NC = filter_L.unfold(0, columns, 1)[: len(filter_L) // 2]
    u_NK, s_K, _ = torch.linalg.svd(hankel_NC, full_matrices=False)
    rank = min(2 * modes, int((s_K > s_K[0] * 1e-12).sum()), len(u_NK) - 1)
    if rank < 1:
        return torch.zeros(modes, dtype=torch.complex128)
    u_NK = u_NK[:, :rank] * s_K[:rank].sqrt()
    found = torch.linalg.eigvals(torch.linalg.lstsq(u_NK[:-1], u_NK[1:]).solution)
    found = found[found.imag >= 0]
    found = torch.polar(found.abs().clamp(max=_RADIUS), found.angle())
    if len(found) > modes:
        residue_M, _ = _residues(filter_L, found)
        weight_M = residue_M.abs() / (1 - found.abs() ** 2).sqrt()  # the norm of a mode
        found = found[weight_M.topk(modes).indices]
    return F.pad(found, (0, modes - len(found)))


def _residues(filter_L: Tensor, pole_M: Tensor) -> tuple[Tensor, float]:
    """Residues by least squares, and the squared error."""
    powers_LM = powers(pole_M[None], len(filter_L))[0].t()
    basis = torch.cat([powers_LM.real, -powers_LM.imag], 1)
    gram = basis.t() @ basis
    gram.diagonal().add_(_RIDGE * float(gram.diagonal().max()))
    real, imaginary = torch.linalg.solve(gram, basis.t() @ filter_L).chunk(2)
    rest = filter_L - basis @ torch.cat([real, imaginary])
    return torch.complex(real, imaginary), float(rest.square().sum())
