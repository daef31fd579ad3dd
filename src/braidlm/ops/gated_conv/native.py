"""The long convolution token by token, its modes in registers, in C++; backward too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..segments import Carried, Segments, over_rows
from ..strides import channels_together
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
    """Native implementation of `ops.gated_conv`."""
    modal = (poles_FM, residues_FM, state_RDM)
    if not (takes(u_TD, gate_TD, d_D, *modal, gradients=True) and all(t.dtype == torch.complex64 for t in modal)):
        return reference.gated_conv(u_TD, gate_TD, poles_FM, residues_FM, d_D, state_RDM, segments)
    d = d_D.float().contiguous()

    def step(u: Tensor, gate: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return _GatedConv.apply(u, gate, poles_FM, residues_FM, d, before)

    return over_rows(step, [channels_together(u_TD), channels_together(gate_TD)], state_RDM, segments)


class _GatedConv(torch.autograd.Function):
    """Dense rows (u, gate [R, L, D], poles, residues, d, states before): outputs and the states after."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs)
        y, after = torch.empty(inputs[0].shape), torch.empty(inputs[-1].shape, dtype=torch.complex64)
        extension().gated_conv(*_given(inputs), y, torch.view_as_real(after), count())
        return y, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dafter: Tensor) -> tuple[Tensor, ...]:
        inputs = ctx.saved_tensors
        u, gate, poles, _, _, before = inputs
        du, dgate = (torch.empty(t.shape, dtype=t.dtype) for t in (u, gate))
        dpoles, dresidues, dbefore = (torch.empty(before.shape, dtype=torch.complex64) for _ in range(3))
        dd = torch.empty(before.shape[:2])
        modal = (torch.view_as_real(dpoles), torch.view_as_real(dresidues), dd, torch.view_as_real(dbefore))
        extension().gated_conv_backward(*_given(inputs), dy.contiguous(), _pairs(dafter), du, dgate, *modal, count())
        dpoles, dresidues = (t.unflatten(1, (len(poles), -1)).sum((0, 2)) for t in (dpoles, dresidues))
        return du, dgate, dpoles, dresidues, dd.sum(0), dbefore


def _given(inputs: Any) -> tuple[Tensor, ...]:
    """Arguments of the kernels of both directions."""
    u, gate, poles, residues, d, before = (t.detach() for t in inputs)
    return u, gate, _pairs(poles), _pairs(residues), d, _pairs(before)


def _pairs(numbers: Tensor) -> Tensor:
    """Complex numbers as contiguous pairs of their parts."""
    return torch.view_as_real(numbers.resolve_conj().contiguous())
