"""The chunked form in small matrix products that stay in the caches, in C++."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together, plain
from ..threads import count
from . import reference


def ssd(
    x_THP: Tensor,
    dt_TH: Tensor,
    a_H: Tensor,
    b_TGN: Tensor,
    c_TGN: Tensor,
    d_H: Tensor,
    state_RHPN: Tensor,
    segments: Segments,
) -> Carried:
    """See the package."""
    if not (takes(x_THP, dt_TH, a_H, b_TGN, c_TGN, d_H, state_RHPN) and state_RHPN.dtype == torch.float32):
        return reference.ssd(x_THP, dt_TH, a_H, b_TGN, c_TGN, d_H, state_RHPN, segments)
    a, d, groups = plain(a_H), plain(d_H), b_TGN.shape[1]

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        y, after = torch.empty(x.shape), torch.empty(before.shape)
        extension().ssd(x, dt, a, b, c, d, before.contiguous(), y, after, groups, count())
        return y, after

    inputs = [channels_together(t.detach()) for t in (x_THP, dt_TH, b_TGN, c_TGN)]
    y_T, state_R, marked = over_rows(step, inputs, state_RHPN.detach(), segments)
    return Carried(y_T.view(x_THP.shape), state_R, marked)
