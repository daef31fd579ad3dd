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

import torch
from torch import Tensor

from ..model.initialisation import Values, behaving, randomise
from ..model.model import Model
from ..spec import Hyena, Mamba, Mamba2, ModelSpec, Parallel

_DEVIATION = 0.02
# What adds to the residual stream.
_OUTPUTS = ("out_proj", "o_proj", "down_proj")


def initialise(model: Model, seed: int) -> None:
    """Initialises every parameter in float32 on the CPU; the same seed gives the same values."""
    randomise(model, seed, torch.float32, "cpu", _values(model.spec))


def _values(spec: ModelSpec) -> Values:
    added = sum(1 if block.ffn is None else 2 for block in spec.blocks)

    def values(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        *_, module, leaf = f".{name}".split(".")
        if leaf == "residues":
            return torch.randn(shape, generator=generator) / math.sqrt(2 * shape[1])
        if len(shape) < 2 or leaf in ("poles", "prefix", "a_log"):
            found = behaving(name, shape, generator)
            return found * _DEVIATION if leaf == "prefix" else found
        if _of_recurrence(spec, name) or module == "conv":
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            found = torch.rand(shape, generator=generator) * (2 * bound) - bound
        else:
            found = torch.randn(shape, generator=generator) * _DEVIATION
        return found / math.sqrt(added) if module in _OUTPUTS or leaf == "down" else found

    return values


def _of_recurrence(spec: ModelSpec, name: str) -> bool:
    """Whether a parameter belongs to a state-space layer or to a Hyena block's projections."""
    parts = name.split(".")
    if parts[0] != "blocks" or parts[2] != "mixer":
        return False
    mixer = spec.blocks[int(parts[1])].mixer
    return isinstance(mixer, (Mamba, Mamba2, Hyena)) or (isinstance(mixer, Parallel) and parts[3] == "ssm")
