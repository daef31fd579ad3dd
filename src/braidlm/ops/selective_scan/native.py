"""The selective scan token by token, its states in registers, in C++."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together, plain
from ..threads import count
from . import reference


def selective_scan(
    x_TE: Tensor,
    dt_TE: Tensor,
    a_EN: Tensor,
    b_TN: Tensor,
    c_TN: Tensor,
    d_E: Tensor,
    state_REN: Tensor,
    segments: Segments,
) -> Carried:
    """See the package."""
    if not (takes(x_TE, dt_TE, a_EN, b_TN, c_TN, d_E, state_REN) and state_REN.dtype == torch.float32):
        return reference.selective_scan(x_TE, dt_TE, a_EN, b_TN, c_TN, d_E, state_REN, segments)
    a, d = plain(a_EN), plain(d_E)

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        y, after = torch.empty(x.shape), torch.empty(before.shape)
        extension().selective_scan(x, dt, a, b, c, d, before.contiguous(), y, after, count())
        return y, after

    inputs = [channels_together(t) for t in (x_TE, dt_TE, b_TN, c_TN)]
    return over_rows(step, inputs, state_REN.detach(), segments)
