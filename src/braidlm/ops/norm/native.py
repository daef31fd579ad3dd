"""Norms in one pass over each row, in C++.

Under autograd the reference runs: it is differentiable, and training is bound by other things.
"""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..strides import table
from ..threads import count
from . import reference

_OUTPUTS = (torch.float32, torch.bfloat16)


def rms_norm(x_D: Tensor, weight_D: Tensor, eps: float, *, eps_outside_root: bool, dtype: torch.dtype) -> Tensor:
    """See the package."""
    if not (takes(x_D, weight_D) and dtype in _OUTPUTS):
        return reference.rms_norm(x_D, weight_D, eps, eps_outside_root=eps_outside_root, dtype=dtype)
    out = torch.empty(x_D.shape, dtype=dtype)
    extension().rms_norm(table(x_D), weight_D.float(), eps, eps_outside_root, table(out), count())
    return out


def gated_rms_norm(
    y_D: Tensor, gate_D: Tensor, weight_D: Tensor, eps: float, *, groups: int, dtype: torch.dtype
) -> Tensor:
    """See the package."""
    if not (takes(y_D, gate_D, weight_D) and dtype in _OUTPUTS):
        return reference.gated_rms_norm(y_D, gate_D, weight_D, eps, groups=groups, dtype=dtype)
    out = torch.empty(y_D.shape, dtype=dtype)
    extension().gated_rms_norm(table(y_D), table(gate_D), weight_D.float(), eps, groups, table(out), count())
    return out
