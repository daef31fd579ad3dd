"""The model as data: one frozen spec for every family.

A `ModelSpec` is a tuple of `Block`s; a block is one sequence mixer and at most one feed-forward.
Nothing here knows torch, a checkpoint or a family. Sizes are validated when a spec is
made, and each message names the field, its value and what would be right.

Legend: width = model dimension; "heads" are query heads; a window counts visible keys
including the query itself.
"""

from ..system.settings import is_finite, is_whole
from .checks import require
from .feed_forward import Activation, FeedForward, Mlp, Moe
from .lines import lines, mixer_kinds
from .mixers import Attention, Hyena, Mamba, Mamba2, Mixer, Parallel, attention_of, parts_of, replace_attention
from .model import Block, ModelSpec, Norm
from .protocols import FeedForwardSpec, MixerSpec
from .rope import (
    DynamicNtkScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    NtkScaling,
    Rope,
    RopeScaling,
    YarnScaling,
)

__all__ = [
    "Activation",
    "Attention",
    "Block",
    "DynamicNtkScaling",
    "FactorScaling",
    "FeedForward",
    "FeedForwardSpec",
    "Hyena",
    "LinearScaling",
    "Llama3Scaling",
    "Mamba",
    "Mamba2",
    "Mixer",
    "MixerSpec",
    "Mlp",
    "ModelSpec",
    "Moe",
    "Norm",
    "NtkScaling",
    "Parallel",
    "Rope",
    "RopeScaling",
    "YarnScaling",
    "attention_of",
    "is_finite",
    "is_whole",
    "lines",
    "mixer_kinds",
    "parts_of",
    "replace_attention",
    "require",
]
