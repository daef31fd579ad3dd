"""Random initialisation of weights, for a model that has no checkpoint.

Matrices are normal with deviation 1/sqrt(inputs), gains one; what is special, a layer declares (`Layer.INITIAL`).
"""

import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..layers import Layer
from .assign import assign
from .footprint import parameter_dtypes
from .model import Model

Values = Callable[[str, torch.Size, torch.Generator], Tensor]


def randomise(model: Model, seed: int, dtype: torch.dtype, device: str, values: Values | None = None) -> None:
    """Fills every parameter of `model` (on any device, meta too); the same seed gives the same values.

    Each parameter has a generator of its own, so that its values depend on its name alone. `values` makes others than
    this module's.
    """
    values = values or usual_values(model)
    dtypes = parameter_dtypes(model, dtype)
    for name, parameter in list(model.named_parameters()):
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        assign(model, name, values(name, parameter.shape, generator).to(device, dtypes[name]))


def usual_values(model: Model) -> Values:
    """Random values of a model's parameters, by name (see the module)."""

    def values(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        owner, _, leaf = name.rpartition(".")
        layer = model.get_submodule(owner)
        if isinstance(layer, Layer) and leaf in layer.INITIAL:
            return layer.INITIAL[leaf](shape, generator)
        if owner == "":  # vectors of meta tokens
            return torch.randn(shape, generator=generator)
        if len(shape) == 1:  # a gain
            return torch.ones(shape)
        return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])

    return values
