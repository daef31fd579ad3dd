"""The long convolution token by token, its modes in registers, in C++."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together, plain
from ..threads import count
from . import reference


def gated_conv(
    u_TD: Tensor,
    gate_TD: Tensor,
    poles_FM: Tensor,
    residues_FM: Tensor,
    d_D: Tensor,
    state_RDM: Tensor,
    segments: Segments,
) -> Carried:
    """See the package."""
    modal = (poles_FM, residues_FM, state_RDM)
    if not (takes(u_TD, gate_TD, d_D, *modal) and all(t.dtype == torch.complex64 for t in modal)):
        return reference.gated_conv(u_TD, gate_TD, poles_FM, residues_FM, d_D, state_RDM, segments)
    poles, residues, d = _pairs(poles_FM), _pairs(residues_FM), plain(d_D)

    def step(u: Tensor, gate: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        y, after = torch.empty(u.shape), torch.empty(before.shape, dtype=torch.complex64)
        extension().gated_conv(u, gate, poles, residues, d, _pairs(before), y, torch.view_as_real(after), count())
        return y, after

    return over_rows(
        step, [channels_together(u_TD.detach()), channels_together(gate_TD.detach())], state_RDM.detach(), segments
    )


def _pairs(numbers: Tensor) -> Tensor:
    """Complex numbers as contiguous pairs of their parts."""
    return torch.view_as_real(numbers.detach().resolve_conj().contiguous())
