"""torch's own operations."""

import torch.nn.functional as F
from torch import Tensor


def glu(gate_D: Tensor, up_D: Tensor, activation: str) -> Tensor:
    """See the package."""
    return (F.silu(gate_D) if activation == "silu" else F.gelu(gate_D)) * up_D


def add_scaled(x_D: Tensor, y_D: Tensor, scale: float) -> Tensor:
    """See the package."""
    return x_D.add(y_D, alpha=scale)
