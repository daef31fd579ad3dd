"""Random values of special parameters: decays, time steps, filters.

They start in the ranges of the published models (Gu and Dao 2023, section 3.6; Massaroli et al. 2023), so that
activations neither vanish nor grow with depth or length.
"""

import math

import torch
from torch import Tensor

_TIME_STEPS = (0.001, 0.1)
_POLE_RADII = (0.3, 0.99)


def ones(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """One everywhere."""
    return torch.ones(shape)


def zeros(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Zero everywhere."""
    return torch.zeros(shape)


def log_decays(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """log(-A), A from -1 to minus the number of states of a channel (Mamba), or from -1 to -16 over heads (Mamba-2)."""
    if len(shape) == 2:
        return torch.arange(1, shape[1] + 1).log().expand(shape).contiguous()
    return torch.linspace(1, 16, shape[0]).log()


def time_steps(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """The inverse softplus of time steps even in logarithm."""
    low, high = (math.log(step) for step in _TIME_STEPS)
    steps = (torch.rand(shape, generator=generator) * (high - low) + low).exp()
    return steps + (-(-steps).expm1()).log()


def poles(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Poles inside the unit disc, [..., 2]: even in radius and angle."""
    low, high = _POLE_RADII
    radius = torch.rand(shape[:-1], generator=generator) * (high - low) + low
    angle = torch.rand(shape[:-1], generator=generator) * math.pi
    return torch.view_as_real(torch.polar(radius, angle)).contiguous()


def residues(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Residues of filters of norm one, [filters, modes, 2]."""
    return torch.randn(shape, generator=generator) / math.sqrt(2 * shape[1])
