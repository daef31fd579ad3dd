"""Initialisation of weights for training, as published for each kind of layer.

Embeddings, attention and feed-forwards are normal with deviation 0.02 (Radford et al. 2019); projections, convolutions
and time steps of state-space layers uniform within 1/sqrt(inputs), A from 1 to N for each channel (Mamba: Gu and Dao
2023, section 3.6) or uniform from 1 to 16 over heads (Mamba-2: Dao and Gu 2024), time steps from 0.001 to 0.1 evenly
in logarithm. Hyena's modes have radii and angles spread evenly (Massaroli et al. 2023, section 3), and residues such
that a filter begins with norm one; `implicit` begins filters that are a network of the position. What a block adds to
the residual stream is divided by the square root of how often anything is added, so that the stream does not grow with
depth (Radford et al. 2019).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..layers import Layer
from ..model.initialisation import Values, randomise, usual_values
from ..model.model import Model

_DEVIATION = 0.02


def initialise(model: Model, seed: int) -> None:
    """Initialises every parameter in float32 on the CPU; the same seed gives the same values."""
    randomise(model, seed, torch.float32, "cpu", _values(model))


def _values(model: Model) -> Values:
    usual = usual_values(model)
    added = sum(1 if block.ffn is None else 2 for block in model.spec.blocks)

    def values(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        layers = list(_layers_around(model, name))
        leaf = name.rpartition(".")[2]
        special = layers[-1][0].TRAINING_INITIAL.get(leaf) if layers else None
        if special is not None:
            return special(shape, generator)
        if not layers:  # vectors of meta tokens
            return usual(name, shape, generator) * _DEVIATION
        if len(shape) < 2 or leaf in layers[-1][0].INITIAL:
            return usual(name, shape, generator)
        if any(layer.UNIFORM for layer, _ in layers):
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            found = torch.rand(shape, generator=generator) * (2 * bound) - bound
        else:
            found = torch.randn(shape, generator=generator) * _DEVIATION
        output = any(part in layer.RESIDUAL_OUTPUTS for layer, part in layers)
        return found / math.sqrt(added) if output else found

    return values


def _layers_around(model: Model, name: str) -> Iterator[tuple[Layer, str]]:
    """Layers that a parameter lies in, outermost first, each with the part of it that leads to the parameter."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        module = model.get_submodule(".".join(parts[:depth]))
        if isinstance(module, Layer):
            yield module, parts[depth]
