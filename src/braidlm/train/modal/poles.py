"""Poles of filters from their Hankel matrix: balanced truncation by the shift of the singular vectors.

The largest singular directions of a filter with few modes are themselves sums of its modes, so that the map which moves
them by one position has the poles as eigenvalues (Ho and Kalman 1966; Kung 1978).

Legend: F = filters, M = modes, K = singular directions.
"""

import torch
from torch import Tensor

from .hankel import Spectrum

# Radius of the smallest poles: modes of smaller ones are over too soon to be told from the first tap.
_NEAREST = 0.05


def poles(found: Spectrum, modes: int, length: int, radius: float, noise: float, *, real: bool = False) -> Tensor:
    """Poles [F, modes], complex128, of filters of `length` positions, none beyond `radius`; zeros where spare.

    One of each conjugate pair is given. A pair takes one mode and two states, a real pole one mode and one state: each
    filter gets as many states as fit. Singular values below the part `noise` of the largest are rounding. With `real`,
    a pair x +- iy is replaced by the real poles x - y and x + y.
    """
    ranks_F = (found.values_FK > found.values_FK[:, :1] * noise).sum(1)
    most = min(modes if real else 2 * modes, found.values_FK.shape[1] - 1)
    states_F = ranks_F.clamp(max=most)
    made = torch.zeros(len(ranks_F), modes, dtype=torch.complex128)
    while (states := int(states_F.max())) > 0:
        which = (states_F == states).nonzero()[:, 0]
        states_F[which] = 0
        eigenvalues_FK = torch.linalg.eigvals(_moved(found, which, states))
        for filter, eigenvalues_K in zip(which.tolist(), eigenvalues_FK, strict=True):
            chosen = _split(eigenvalues_K) if real else eigenvalues_K[eigenvalues_K.imag >= 0]
            if len(chosen) > modes:  # a state less takes at most one mode away
                states_F[filter] = states - (len(chosen) - modes)
            else:
                made[filter, : len(chosen)] = torch.where(chosen == 0, _NEAREST, chosen)  # zeros are spare
    outside_F = (made.abs() > radius).any(1)
    if not real:
        made = torch.where((made == 0) & outside_F[:, None], _slow(modes, length, radius), made)
    nearest = torch.where(made == 0, 0.0, _NEAREST)  # a mode that is over at once reaches the free tap alone
    return torch.polar(made.abs().clamp(nearest, torch.full_like(nearest, radius)), made.angle())


def _moved(found: Spectrum, which: Tensor, states: int) -> Tensor:
    """Least-squares solution A of U[:-1] A = U[1:] for the first directions of some filters."""
    shift_FKK, last_FK = found.shift_FKK[which, :states, :states], found.last_FK[which, :states]
    # U[:-1]^T U[:-1] = I - last last^T, whose inverse is I + last last^T / (1 - |last|^2).
    rest_F = (1 - last_FK.square().sum(1)).clamp(min=1e-12)
    return shift_FKK + last_FK[:, :, None] * ((last_FK[:, None] @ shift_FKK) / rest_F[:, None, None])


def _slow(modes: int, length: int, radius: float) -> Tensor:
    """Slow oscillations for spare modes of a filter that grows: together they can follow what no stable pole alone can.

    They decay over half of its positions, if `radius` allows that, and swing as often as there are modes.
    """
    radii = torch.full((modes,), min(1 - 2 / length, radius), dtype=torch.float64)
    return torch.polar(radii, torch.arange(1, modes + 1).double() * 3 / length)


def _split(eigenvalues_K: Tensor) -> Tensor:
    """Real poles that are spread as the eigenvalues are."""
    return torch.complex(eigenvalues_K.real + eigenvalues_K.imag, torch.zeros_like(eigenvalues_K.real))
