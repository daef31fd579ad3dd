"""Random initialisation of weights, for a model that has no checkpoint.

Matrices are normal with deviation 1/sqrt(inputs); decays, time steps and filters start in the
ranges of the published models (Gu and Dao 2023, section 3.6; Massaroli et al. 2023), so that
activations neither vanish nor grow with depth or length.
"""

import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .assign import assign
from .footprint import parameter_dtypes
from .model import Model

Values = Callable[[str, torch.Size, torch.Generator], Tensor]

_TIME_STEPS = (0.001, 0.1)
_POLE_RADII = (0.3, 0.99)


def randomise(model: Model, seed: int, dtype: torch.dtype, device: str, values: Values | None = None) -> None:
    """Fills every parameter of `model` (on any device, meta too); the same seed gives the same values.

    Each parameter has a generator of its own, so that its values depend on its name alone. `values` makes others than
    this module's.
    """
    values = values or behaving
    dtypes = parameter_dtypes(model, dtype)
    for name, parameter in list(model.named_parameters()):
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        assign(model, name, values(name, parameter.shape, generator).to(device, dtypes[name]))


def behaving(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Random values of one parameter, by its name (see the module)."""
    leaf = name.rpartition(".")[2]
    special: dict[str, Callable[[], Tensor]] = {
        "a_log": lambda: _decays(shape),
        "d": lambda: torch.ones(shape),
        "dt_bias": lambda: _time_steps(shape, generator),
        "poles": lambda: _poles(shape, generator),
        "bias": lambda: torch.zeros(shape),
        "prefix": lambda: torch.randn(shape, generator=generator),
    }
    if leaf in special:
        return special[leaf]()
    if len(shape) == 1:  # a norm's gain
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])


def _decays(shape: torch.Size) -> Tensor:
    """-A from 1 to the number of states of a channel (Mamba), or spread from 1 to 16 over heads (Mamba-2)."""
    if len(shape) == 2:
        return torch.arange(1, shape[1] + 1).log().expand(shape).contiguous()
    return torch.linspace(1, 16, shape[0]).log()


def _time_steps(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """The inverse softplus of time steps spread evenly in logarithm."""
    low, high = (math.log(step) for step in _TIME_STEPS)
    steps = (torch.rand(shape, generator=generator) * (high - low) + low).exp()
    return steps + (-(-steps).expm1()).log()


def _poles(shape: torch.Size, generator: torch.Generator) -> Tensor:
    low, high = _POLE_RADII
    radius = torch.rand(shape[:-1], generator=generator) * (high - low) + low
    angle = torch.rand(shape[:-1], generator=generator) * math.pi
    return torch.view_as_real(torch.polar(radius, angle)).contiguous()
