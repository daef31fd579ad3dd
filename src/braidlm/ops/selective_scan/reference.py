"""The selective scan as a work-efficient associative scan, chunk by chunk.

The recurrence h_t = a_t h_{t-1} + u_t is associative under (a1, u1) . (a2, u2) = (a1 a2, a2 u1 + u2)
(Blelloch 1990). Pairs are combined, the half-length problem is solved, and the even positions are
filled in: about three multiply-adds an element, and only products of decays, which underflow
harmlessly to zero where a ratio of cumulative products would be 0/0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics import widened
from ..segments import Carried, Segments, over_rows

# Elements of one [chunk, E, N] buffer: small enough to stay in the last-level cache.
_CHUNK_ELEMENTS = 1 << 20


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
    """Reference implementation of `ops.selective_scan`; chunks of time bound the memory."""
    wide = state_REN.dtype
    a_EN, d_E = a_EN.to(wide), d_E.to(wide)

    def step(x_RLE: Tensor, dt_RLE: Tensor, b_RLN: Tensor, c_RLN: Tensor, h_REN: Tensor) -> tuple[Tensor, Tensor]:
        rows, length, _ = x_RLE.shape
        chunk = max(1, _CHUNK_ELEMENTS // (rows * a_EN.numel()))
        outputs = []
        for begin in range(0, length, chunk):
            part = slice(begin, begin + chunk)
            y, h_REN = _chunk(x_RLE[:, part], dt_RLE[:, part], a_EN, b_RLN[:, part], c_RLN[:, part], h_REN)
            outputs.append(y)
        y_RLE = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
        return y_RLE.addcmul(d_E, x_RLE), h_REN

    inputs = [t.to(wide) for t in (x_TE, dt_TE, b_TN, c_TN)]
    return over_rows(step, inputs, state_REN, segments)


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
    """Reference implementation of `ops.gated_selective_scan`."""
    dt = F.softplus(widened(dt_TE) + dt_bias_E)
    y, after, snapshots = selective_scan(x_TE, dt, a_EN, b_TN, c_TN, d_E, state_REN, segments)
    return Carried((y * F.silu(widened(gate_TE))).to(x_TE.dtype), after, snapshots)


def _chunk(
    x_RLE: Tensor, dt_RLE: Tensor, a_EN: Tensor, b_RLN: Tensor, c_RLN: Tensor, h_REN: Tensor
) -> tuple[Tensor, Tensor]:
    decay = (dt_RLE[..., None] * a_EN).exp()
    update = (dt_RLE * x_RLE)[..., None] * b_RLN[:, :, None, :]
    first = torch.addcmul(update[:, :1], decay[:, :1], h_REN[:, None])
    update = first if update.shape[1] == 1 else torch.cat([first, update[:, 1:]], 1)
    h_RLEN = linear_recurrence(decay, update)
    y_RLE = torch.matmul(h_RLEN, c_RLN[..., None])[..., 0]
    return y_RLE, h_RLEN[:, -1].clone()


def linear_recurrence(decay_RL: Tensor, update_RL: Tensor) -> Tensor:
    """h_t = decay_t h_{t-1} + update_t with h_{-1} = 0, along dimension 1 of [R, L, ...]."""
    length = decay_RL.shape[1]
    if length == 1:
        return update_RL
    pairs = length // 2 * 2
    decay_even, decay_odd = decay_RL[:, 0:pairs:2], decay_RL[:, 1:pairs:2]
    combined = torch.addcmul(update_RL[:, 1:pairs:2], decay_odd, update_RL[:, 0:pairs:2])
    odd = linear_recurrence(decay_even * decay_odd, combined)
    h = torch.empty_like(update_RL)
    # Row 0 has no predecessor; every later even row follows the odd row before it.
    h[:, :1] = update_RL[:, :1]
    h[:, 1::2] = odd
    h[:, 2::2] = torch.addcmul(update_RL[:, 2::2], decay_RL[:, 2::2], odd[:, : (length - 1) // 2])
    return h
