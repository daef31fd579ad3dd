"""Selective scan of Mamba-1 (Gu and Dao 2023, algorithm 2) over packed rows.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t        (B is multiplied by dt: not the exact integral)
    y_t = sum_n C_t h_t + D x_t

Legend: T = packed tokens, R = rows, E = channels, N = states a channel.
"""

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from ..segments import Carried, Segments
from . import native, reference

dispatch.register("selective_scan", "reference", reference.selective_scan)
dispatch.register("selective_scan", "native", native.selective_scan, why_not)
dispatch.register("gated_selective_scan", "reference", reference.gated_selective_scan)
dispatch.register("gated_selective_scan", "native", native.gated_selective_scan, why_not)


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
    """Scans each row from its state; `a_EN` is negative, `dt_TE` is after its softplus.

    Computes and returns y in float32 (float64 for a float64 state), exactly for any decay:
    products of decays are formed, never divided by.
    """
    implementation = dispatch.select("selective_scan", x_TE.device.type)
    return implementation(x_TE, dt_TE, a_EN, b_TN, c_TN, d_E, state_REN, segments)


def gated_selective_scan(
    x_TE: Tensor,
    dt_TE: Tensor,
    dt_bias_E: Tensor,
    a_EN: Tensor,
    b_TN: Tensor,
    c_TN: Tensor,
    d_E: Tensor,
    gate_TE: Tensor,
    state_REN: Tensor,
    segments: Segments,
) -> Carried:
    """Scans as `selective_scan` does with time steps softplus(dt + dt_bias); returns y * silu(gate) in x's dtype."""
    implementation = dispatch.select("gated_selective_scan", x_TE.device.type)
    return implementation(x_TE, dt_TE, dt_bias_E, a_EN, b_TN, c_TN, d_E, gate_TE, state_REN, segments)
