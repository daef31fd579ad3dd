"""The chunked form in small matrix products that stay in the caches, in C++; backward too."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together
from ..threads import count
from . import gradients, reference


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
    tensors = (x_THP, dt_TH, a_H, b_TGN, c_TGN, d_H, state_RHPN)
    if not (takes(*tensors, gradients=True) and state_RHPN.dtype == torch.float32):
        return reference.ssd(*tensors, segments)
    a, d, groups = a_H.float().contiguous(), d_H.float().contiguous(), b_TGN.shape[1]

    def scan(
        x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, after = torch.empty(x.shape), torch.empty(before.shape)
        extension().ssd(x, dt, a, b, c, d, before, y, after, groups, count())
        return y, after

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return gradients.recorded(scan, groups, x, dt, a, b, c, d, before.contiguous())

    inputs = [channels_together(t) for t in (x_THP, dt_TH, b_TGN, c_TGN)]
    y_T, state_R, marked = over_rows(step, inputs, state_RHPN, segments)
    return Carried(y_T.view(x_THP.shape), state_R, marked)
