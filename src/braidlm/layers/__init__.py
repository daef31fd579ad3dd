"""Mixers, feed-forward layers, norms: one module each, over the operations of `ops` and the states of `state`."""

from torch import nn

from .. import spec as specs
from .attention import Attention
from .hyena import Hyena
from .mamba import Mamba
from .mamba2 import Mamba2
from .mixer import Batch
from .parallel import Parallel

_MODULES: dict[type, type[nn.Module]] = {
    specs.Attention: Attention,
    specs.Mamba: Mamba,
    specs.Mamba2: Mamba2,
    specs.Hyena: Hyena,
    specs.Parallel: Parallel,
}


def build(spec: specs.Mixer, model: specs.ModelSpec) -> nn.Module:
    """Builds the module of a mixer's spec, for a model of width `model.width`."""
    return _MODULES[type(spec)](spec, model)


__all__ = ["Batch", "build"]
