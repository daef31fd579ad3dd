"""State-space duality of Mamba-2 (Dao and Gu 2024, section 6) over packed rows.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t (outer) B_t        h: [P, N] a head, one A a head
    y_t = h_t C_t + D x_t

Legend: T = packed tokens, R = rows, H = heads, P = head size, G = groups sharing B and C, N = states.
Head h uses group h // (H / G).
"""

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from ..segments import Carried, Segments
from . import native, reference

dispatch.register("ssd", "reference", reference.ssd)
dispatch.register("ssd", "native", native.ssd, why_not)


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
    """Scans each row from its state; `a_H` is negative, `dt_TH` is after softplus and clamp.

    Computes and returns y [T, H, P] in float32 (float64 for a float64 state). Decays inside a
    chunk are exponentials of differences of cumulative sums, so no decay is divided by.
    """
    implementation = dispatch.select("ssd", x_THP.device.type)
    return implementation(x_THP, dt_TH, a_H, b_TGN, c_TGN, d_H, state_RHPN, segments)
