"""Norms in float32 (float64 for float64 inputs), whatever the dtype of the weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics import widened


def rms_norm(x_D: Tensor, weight_D: Tensor, eps: float, *, eps_outside_root: bool, dtype: torch.dtype) -> Tensor:
    """Reference implementation of `ops.rms_norm`."""
    x_D = widened(x_D)
    # Without eps under the root, the root of a square would have no gradient at zero.
    mean = torch.linalg.vector_norm(x_D, dim=-1, keepdim=True) / x_D.shape[-1] ** 0.5
    scale = 1 / (mean + eps) if eps_outside_root else 1 / (mean.square() + eps).sqrt()
    return (x_D * scale * weight_D.to(x_D.dtype)).to(dtype)


def gated_rms_norm(
    y_D: Tensor, gate_D: Tensor, weight_D: Tensor, eps: float, *, groups: int, dtype: torch.dtype
) -> Tensor:
    """Reference implementation of `ops.gated_rms_norm`."""
    y_D = widened(y_D)
    gated = (y_D * F.silu(gate_D.to(y_D.dtype))).unflatten(-1, (groups, -1))
    normed = (gated / _root(gated, eps)).flatten(-2)
    return (normed * weight_D.to(y_D.dtype)).to(dtype)


def _root(x: Tensor, eps: float) -> Tensor:
    """sqrt(mean(x^2) + eps) over the last dimension, kept; one fast pass over x."""
    return (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + eps).sqrt()
