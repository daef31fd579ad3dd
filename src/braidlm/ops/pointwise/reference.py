"""Pointwise operations by torch."""

import torch.nn.functional as F
from torch import Tensor


def glu(gate_D: Tensor, up_D: Tensor, activation: str) -> Tensor:
    """Reference implementation of `ops.glu`."""
    return (F.silu(gate_D) if activation == "silu" else F.gelu(gate_D)) * up_D


def add_scaled(x_D: Tensor, y_D: Tensor, scale: float) -> Tensor:
    """Reference implementation of `ops.add_scaled`."""
    return x_D.add(y_D, alpha=scale)
