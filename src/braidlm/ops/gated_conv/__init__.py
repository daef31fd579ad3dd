"""Gated long convolution of StripedHyena over packed rows.

    y_t = gate_t * (sum_{s<=t} h_{t-s} u_s + D u_t),   h_t = sum_m Re(residue_m pole_m^t), t = 0, 1, ...

The filter is a sum of complex modes (Massaroli et al. 2023), so the same convolution is the
recurrence s_t = pole s_{t-1} + u_t, y_t = sum_m Re(residue_m s_t): a sequence is convolved by
FFT, and the modal state carries it on. Modes are not doubled by their conjugates.

Legend: T = packed tokens, R = rows, D = channels, F = filters, M = modes of a filter.
Channel d uses filter d // (D / F).
"""

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from ..segments import Carried, Segments
from . import native, reference

dispatch.register("gated_conv", "reference", reference.gated_conv)
dispatch.register("gated_conv", "native", native.gated_conv, why_not)


def gated_conv(
    u_TD: Tensor,
    gate_TD: Tensor,
    poles_FM: Tensor,
    residues_FM: Tensor,
    d_D: Tensor,
    state_RDM: Tensor,
    segments: Segments,
) -> Carried:
    """Convolves each row of `u_TD` and gates it; poles, residues and state are complex.

    Computes in complex64 / float32 (complex128 / float64 for a complex128 state) and returns y
    in that real dtype. A pole of exactly zero is a filter of one tap.
    """
    implementation = dispatch.select("gated_conv", u_TD.device.type)
    return implementation(u_TD, gate_TD, poles_FM, residues_FM, d_D, state_RDM, segments)
