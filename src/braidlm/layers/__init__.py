"""Mixers, feed-forward layers, norms: one module each, over the operations of `ops` and the states of `state`."""

from .. import spec as specs
from .attention import Attention
from .batch import Batch
from .feed_forward import Mlp, Moe
from .hyena import Hyena
from .layer import FeedForward, Layer, Mixer, RoutedFeedForward
from .mamba import Mamba
from .mamba2 import Mamba2
from .parallel import Parallel

# The modules of the kinds of layers that `spec` lists.
_MIXERS: dict[type[specs.MixerSpec], type[Mixer]] = {
    specs.Attention: Attention,
    specs.Mamba: Mamba,
    specs.Mamba2: Mamba2,
    specs.Hyena: Hyena,
    specs.Parallel: Parallel,
}
_FEED_FORWARDS: dict[type[specs.FeedForwardSpec], type[FeedForward]] = {specs.Mlp: Mlp, specs.Moe: Moe}


def build_mixer(spec: specs.Mixer, model: specs.ModelSpec) -> Mixer:
    """Builds the module of a mixer's spec, for a model of width `model.width`."""
    return _MIXERS[type(spec)](spec, model)


def build_feed_forward(spec: specs.FeedForward, width: int) -> FeedForward:
    """Builds the module of a feed-forward layer's spec."""
    return _FEED_FORWARDS[type(spec)](spec, width)


__all__ = ["Batch", "FeedForward", "Layer", "Mixer", "RoutedFeedForward", "build_feed_forward", "build_mixer"]
