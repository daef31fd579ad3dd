"""Sequence mixers: the only places that know a mixer's mathematics and which state it needs."""

from torch import nn

from .. import spec
from .attention import Attention
from .hyena import Hyena
from .mamba import Mamba
from .mamba2 import Mamba2
from .mixer import Batch
from .parallel import Parallel

_MODULES: dict[type, type[nn.Module]] = {
    spec.Attention: Attention,
    spec.Mamba: Mamba,
    spec.Mamba2: Mamba2,
    spec.Hyena: Hyena,
    spec.Parallel: Parallel,
}


def build(form: spec.Mixer, model: spec.ModelSpec) -> nn.Module:
    """The module of a mixer spec inside a model of width `model.width`."""
    return _MODULES[type(form)](form, model)


__all__ = ["Batch", "build"]
