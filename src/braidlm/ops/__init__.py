"""Operations: each a folder with its plain reference in torch and its faster implementations.

Callers import from here; which implementation runs is decided in `dispatch` alone.
"""

from .attention import Past, Visible, attention
from .causal_conv1d import causal_conv1d
from .cross_entropy import cross_entropy
from .gated_conv import gated_conv
from .linear import linear
from .moe import moe
from .norm import gated_rms_norm, rms_norm
from .pointwise import add_scaled, glu
from .segments import Carried, Segments
from .selective_scan import gated_selective_scan, selective_scan
from .ssd import ssd

__all__ = [
    "Carried",
    "Past",
    "Segments",
    "Visible",
    "add_scaled",
    "attention",
    "causal_conv1d",
    "cross_entropy",
    "gated_conv",
    "gated_rms_norm",
    "gated_selective_scan",
    "glu",
    "linear",
    "moe",
    "rms_norm",
    "selective_scan",
    "ssd",
]
