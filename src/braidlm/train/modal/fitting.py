"""Fit of modes to filters: Hankel matrix, poles, refinement, residues.

Legend: F = filters, L = positions, M = modes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.gated_conv.reference import powers
from .hankel import Spectrum, spectrum
from .poles import poles
from .refine import refine
from .residues import RIDGE, solve

# Numbers of one table of a filter's modes at all positions: they bound the memory of a fit.
_ELEMENTS = 1 << 21
# Rounding of a decomposition in float64, as a part of the largest singular value.
_ROUNDING = 1e-13
# Steps of refinement, at most; most filters are done sooner.
STEPS = 50


class Modes(NamedTuple):
    """Modes of filters: h_t is nearly sum_m Re(residue_m pole_m^t), with direct_F added at t = 0.

    Poles and residues are complex64, as layers hold them; error_F and norm_F the norms of what they leave of each
    filter and of the filter.
    """

    poles_FM: Tensor
    residues_FM: Tensor
    direct_F: Tensor
    error_F: Tensor
    norm_F: Tensor

    @property
    def relative_F(self) -> Tensor:
        """Relative error of each filter; zero for a filter that is zero."""
        return self.error_F / self.norm_F.clamp(min=torch.finfo(torch.float64).tiny)


def fit(
    filters_FL: Tensor,
    modes: int,
    *,
    steps: int = STEPS,
    real: bool = False,
    found: Spectrum | None = None,
    ridge: float = RIDGE,
    radius: float = 1.0,
) -> Modes:
    """Fit of `modes` modes to each filter, refined in `steps` steps; `found` is their spectrum where it is known.

    ridge: what a residue of one costs, as a part of its mode's norm. Larger ones keep residues from cancelling each
    other. radius: largest absolute value of a pole, for filters that are to fade beyond the length that is known.
    """
    noise = max(torch.finfo(filters_FL.dtype).eps, _ROUNDING)
    filters_FL, length = filters_FL.double(), filters_FL.shape[1]
    # A pole further out decays too slowly to be told from a constant within the length, or is 1 in float32.
    radius = min(radius, 1 - max(0.1 / length, 1e-6))
    found = spectrum(filters_FL, (1 if real else 2) * modes + 1) if found is None else found
    begun_FM = poles(found, modes, length, radius, noise, real=real)
    step = max(1, _ELEMENTS // (2 * modes * length))
    parts = [
        _fitted(*part, radius, steps, ridge) for part in zip(filters_FL.split(step), begun_FM.split(step), strict=True)
    ]
    return Modes(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _fitted(filters_FL: Tensor, begun_FM: Tensor, radius: float, steps: int, ridge: float) -> Modes:
    taps_FL, norm_F = filters_FL[:, 1:], filters_FL.norm(dim=1)
    poles_FM = refine(taps_FL, begun_FM, radius, steps, ridge).to(torch.complex64)
    # Residues are those of the poles as they are stored.
    residues_FM = solve(poles_FM.to(torch.complex128), taps_FL, ridge).residues_FM.to(torch.complex64)
    zero_F = torch.zeros_like(norm_F)
    made = Modes(poles_FM, residues_FM, zero_F, zero_F, norm_F)
    rest_FL = filters_FL - impulse_response(made, filters_FL.shape[1])
    return made._replace(direct_F=rest_FL[:, 0].float(), error_F=rest_FL[:, 1:].norm(dim=1))


def impulse_response(modes: Modes, length: int) -> Tensor:
    """Filters of modes, [F, length] in float64."""
    step = max(1, _ELEMENTS // (modes.poles_FM.shape[1] * length))
    filters_FL = torch.cat(
        [
            torch.einsum("fm,fml->fl", residues_FM.to(torch.complex128), powers(poles_FM, length)).real
            for poles_FM, residues_FM in zip(modes.poles_FM.split(step), modes.residues_FM.split(step), strict=True)
        ]
    )
    filters_FL[:, 0] += modes.direct_F
    return filters_FL
