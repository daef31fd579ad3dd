"""Rotary position embeddings: the angle of each pair at each position, and heads rotated by it (Su et al. 2021).

Frequencies are computed in float32 throughout, as the models were trained: at long positions their rounding is part of
what a checkpoint has learned.

Legend: T = packed tokens, H = heads, K = head size, P = rotated pairs.
"""

import math

import torch
from torch import Tensor

from ..ops.numerics import widened
from ..spec import (
    DynamicNtkScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    NtkScaling,
    Rope,
    RopeScaling,
    YarnScaling,
)


def rope_frequencies(rope: Rope) -> Tensor:
    """Angle per position of each rotated pair, [P] float32; of a dynamic scaling, below `original_positions`."""
    scaling, base = rope.scaling, rope.base
    if isinstance(scaling, NtkScaling):
        base = base * scaling.factor ** (rope.dims / (rope.dims - 2))
    frequency_P = 1.0 / base ** _exponents(rope)
    match scaling:
        case LinearScaling():
            return frequency_P / scaling.factor
        case FactorScaling():
            return frequency_P / torch.tensor(scaling.factors)
        case Llama3Scaling():
            return _llama3(frequency_P, scaling)
        case YarnScaling():
            return _yarn(rope, scaling)
    return frequency_P


def rope_magnitude(scaling: RopeScaling | None) -> float:
    """Factor by which a scaling multiplies all cosines and sines."""
    return scaling.attention_factor if isinstance(scaling, YarnScaling) else 1.0


def growing_base(rope: Rope) -> tuple[float, float, int] | None:
    """The base of a dynamic scaling, its factor, and the positions before it grows; None without one."""
    scaling = rope.scaling
    return (rope.base, scaling.factor, scaling.original_positions) if isinstance(scaling, DynamicNtkScaling) else None


def _exponents(rope: Rope) -> Tensor:
    return torch.arange(0, rope.dims, 2, dtype=torch.float32, device="cpu") / rope.dims


def _llama3(frequency_P: Tensor, scaling: Llama3Scaling) -> Tensor:
    turns = scaling.original_positions * frequency_P / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0, 1)
    return frequency_P * (keep + (1 - keep) / scaling.factor)


def _yarn(rope: Rope, scaling: YarnScaling) -> Tensor:
    def pair(turns: float) -> float:
        """The pair, as a fraction, that turns so many times within the original length (section 3.2, equation 17)."""
        length = scaling.original_positions / (turns * 2 * math.pi)
        return rope.dims * math.log(length) / (2 * math.log(rope.base))

    first, last = pair(scaling.beta_fast), pair(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.dims - 1)
    last += 0.001 if first == last else 0  # a step where there is no room for a ramp
    divided = ((torch.arange(rope.dims // 2, dtype=torch.float32, device="cpu") - first) / (last - first)).clamp(0, 1)
    wavelength_P = rope.base ** _exponents(rope)
    return divided / (scaling.factor * wavelength_P) + (1 - divided) / wavelength_P


def _dynamic_frequencies(rope: Rope, scaling: DynamicNtkScaling, positions_T: Tensor) -> Tensor:
    """[T, P]: frequencies that depend on the position itself."""
    seen_T = (positions_T.float() + 1).clamp_min(scaling.original_positions)
    stretch_T = scaling.factor * seen_T / scaling.original_positions - (scaling.factor - 1)
    base_T = rope.base * stretch_T ** (rope.dims / (rope.dims - 2))
    return 1.0 / base_T[:, None] ** _exponents(rope).to(positions_T.device)


class Rotation:
    """Rotary tables of one packed batch: cosines and sines, computed once for each `Rope` in the model."""

    def __init__(self, positions_T: Tensor) -> None:
        self._positions_T = positions_T
        self._tables: dict[Rope, tuple[Tensor, Tensor]] = {}

    def rotate(self, x_THK: Tensor, rope: Rope) -> Tensor:
        """Rotates pair (i, i + dims/2) of each head by its position's angle, in float32; returned in x's dtype."""
        cos, sin = self._table(rope)
        x = widened(x_THK[..., : rope.dims])
        # The partner of each dimension lies half a head away; the sign is in the table.
        turned = torch.addcmul(x * cos, x.roll(rope.dims // 2, -1), sin).to(x_THK.dtype)
        return turned if rope.dims == x_THK.shape[-1] else torch.cat([turned, x_THK[..., rope.dims :]], -1)

    def _table(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosines, and sines that are negative in the first half: both [T, 1, dims]."""
        if rope not in self._tables:
            angles = (self._positions_T[:, None] * self._frequencies(rope))[:, None]
            magnitude = rope_magnitude(rope.scaling)
            cos, sin = angles.cos() * magnitude, angles.sin() * magnitude
            self._tables[rope] = (torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))
        return self._tables[rope]

    def _frequencies(self, rope: Rope) -> Tensor:
        """[P], or [T, P] where they depend on the position."""
        if isinstance(rope.scaling, DynamicNtkScaling):
            return _dynamic_frequencies(rope, rope.scaling, self._positions_T)
        return rope_frequencies(rope).to(self._positions_T.device)
