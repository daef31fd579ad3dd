"""Norms in float32 (float64 for float64 inputs), whatever the dtype of the weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics import widened


def rms_norm(x_D: Tensor, weight_D: Tensor, eps: float, *, eps_outside_root: bool, dtype: torch.dtype) -> Tensor:
    """See the package."""
    x_D = widened(x_D)
    weight_D = weight_D.to(x_D.dtype)
    if not eps_outside_root:
        return F.rms_norm(x_D, weight_D.shape, weight_D, eps).to(dtype)
    root = x_D.square().mean(-1, keepdim=True).sqrt()
    return (x_D / (root + eps) * weight_D).to(dtype)


def gated_rms_norm(
    y_D: Tensor, gate_D: Tensor, weight_D: Tensor, eps: float, *, groups: int, dtype: torch.dtype
) -> Tensor:
    """See the package."""
    y_D = widened(y_D)
    gated = (y_D * F.silu(gate_D.to(y_D.dtype))).unflatten(-1, (groups, -1))
    normed = F.rms_norm(gated, gated.shape[-1:], None, eps).flatten(-2)
    return (normed * weight_D.to(y_D.dtype)).to(dtype)
