"""Root-mean-square norms (Zhang and Sennrich 2019), plain and gated.

Legend: D = normed channels.
"""

import torch
from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from . import native, reference

dispatch.register("rms_norm", "reference", reference.rms_norm)
dispatch.register("gated_rms_norm", "reference", reference.gated_rms_norm)
dispatch.register("rms_norm", "native", native.rms_norm, why_not)
dispatch.register("gated_rms_norm", "native", native.gated_rms_norm, why_not)


def rms_norm(x_D: Tensor, weight_D: Tensor, eps: float, *, eps_outside_root: bool, dtype: torch.dtype) -> Tensor:
    """Root-mean-square norm, in float32, returned as `dtype`: weight * x / sqrt(mean(x^2) + eps).

    With `eps_outside_root`, eps is added to the root instead.
    """
    implementation = dispatch.select("rms_norm", x_D.device.type)
    return implementation(x_D, weight_D, eps, eps_outside_root=eps_outside_root, dtype=dtype)


def gated_rms_norm(
    y_D: Tensor, gate_D: Tensor, weight_D: Tensor, eps: float, *, groups: int, dtype: torch.dtype
) -> Tensor:
    """Gated root-mean-square norm: of y * silu(gate) over each of `groups` equal parts of D, times weight."""
    implementation = dispatch.select("gated_rms_norm", y_D.device.type)
    return implementation(y_D, gate_D, weight_D, eps, groups=groups, dtype=dtype)
