"""Dtypes in which operations accumulate."""

import torch
from torch import Tensor


def accumulate_in(x: Tensor) -> torch.dtype:
    """float64 for float64 inputs, float32 for everything else."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def widened(x: Tensor) -> Tensor:
    """`x` in the dtype that recurrences, norms and softmax are computed in."""
    return x.to(accumulate_in(x))
