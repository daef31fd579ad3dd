"""Hankel singular values of filters, and the shift of their singular vectors, which holds the poles.

The singular values of H_ij = h_{i+j+1} are those of the map from past inputs to future outputs: as many of them as are
above zero is the number of states that the filter needs, and those left out bound what a smaller state loses (Glover
1984; Massaroli et al. 2023, section 3.3). H is symmetric, so that its eigenvectors serve on both sides. It is never
formed where it is large: products with it are correlations, and the largest directions come from subspace iteration
(Halko, Martinsson and Tropp 2011).

Legend: F = filters, L = positions, N = rows and columns of the Hankel matrix, K = singular directions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Rows of the Hankel matrix, at most: they bound the memory of filters that are longer than twice as much.
_ROWS = 4096
_DENSE = 256
# Directions beyond the wanted ones, and rounds: where singular values fall, the wanted ones agree with those of a whole
# decomposition to rounding; the last ones of white noise, which no few modes can follow, to some percent.
_SPARE, _ROUNDS = 16, 3
# Numbers of one [F, N, K] table of directions.
_ELEMENTS = 1 << 22


class Spectrum(NamedTuple):
    """Hankel singular values of each filter, largest first [F, K], and their directions moved by one position.

    shift_FKK is U[:-1]^T U[1:] and last_FK the last row of U, for the singular vectors U [F, N, K].
    """

    values_FK: Tensor
    shift_FKK: Tensor
    last_FK: Tensor


def spectrum(filters_FL: Tensor, directions: int) -> Spectrum:
    """The `directions` largest singular values (fewer for short filters), in float64."""
    rows = min(filters_FL.shape[1] // 2, _ROWS)
    kept = min(directions, rows)
    step = max(1, _ELEMENTS // (rows * min(rows, kept + _SPARE)))
    parts = [_spectrum(part.double(), rows, kept) for part in filters_FL[:, 1 : 2 * rows].split(step)]
    return Spectrum(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _spectrum(taps_FL: Tensor, rows: int, kept: int) -> Spectrum:
    u_FNK, values_FK = _dense(taps_FL, rows) if rows <= _DENSE else _iterated(taps_FL, rows, kept)
    order = values_FK.abs().argsort(dim=-1, descending=True)[:, :kept]
    u_FNK = u_FNK.take_along_dim(order[:, None], 2)
    shift_FKK = u_FNK[:, :-1].mT @ u_FNK[:, 1:]
    return Spectrum(values_FK.gather(1, order).abs(), shift_FKK, u_FNK[:, -1])


def _dense(taps_FL: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    values_FN, u_FNN = torch.linalg.eigh(taps_FL.unfold(1, rows, 1))
    return u_FNN, values_FN


def _iterated(taps_FL: Tensor, rows: int, kept: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    begin_NK = torch.randn(rows, min(rows, kept + _SPARE), dtype=torch.float64, generator=generator)
    q_FNK = torch.linalg.qr(_product(taps_FL, begin_NK[None])).Q
    for _ in range(_ROUNDS):
        q_FNK = torch.linalg.qr(_product(taps_FL, q_FNK)).Q
    small_FKK = q_FNK.mT @ _product(taps_FL, q_FNK)
    values_FK, v_FKK = torch.linalg.eigh((small_FKK + small_FKK.mT) / 2)
    return q_FNK @ v_FKK, values_FK


def _product(taps_FL: Tensor, x_FNK: Tensor) -> Tensor:
    """Product of each filter's Hankel matrix with [F, N, K], or with the same [1, N, K]."""
    size = 1 << taps_FL.shape[1].bit_length()
    spectrum_FC = torch.fft.rfft(taps_FL, size)
    products = spectrum_FC[..., None] * torch.fft.rfft(x_FNK, size, dim=1).conj()
    return torch.fft.irfft(products, size, dim=1)[:, : x_FNK.shape[1]]
