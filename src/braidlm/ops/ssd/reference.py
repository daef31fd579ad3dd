"""State-space duality in chunks: matrix products inside a chunk, the recurrence between chunks.

Legend: Q = chunk, K = chunks of a row; the rest as in the package.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..segments import Carried, Segments, over_rows

CHUNK = 64
# Chunks that are computed together, to bound memory: about 64 MB of [H, Q, Q] decays in float32.
_DECAY_ELEMENTS = 1 << 24


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
    """Reference implementation of `ops.ssd`."""
    wide = state_RHPN.dtype
    a_H, d_H1 = a_H.to(wide), d_H.to(wide)[:, None]

    def step(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, h_RHPN: Tensor) -> tuple[Tensor, Tensor]:
        rows, length, heads, _ = x.shape
        if length == 1:
            y, h_RHPN = _one_token(x[:, 0], dt[:, 0], a_H, b[:, 0], c[:, 0], h_RHPN)
            return torch.addcmul(y[:, None], d_H1, x), h_RHPN
        chunk = min(CHUNK, length)
        span = chunk * max(1, _DECAY_ELEMENTS // (rows * heads * chunk * chunk))
        outputs = []
        for begin in range(0, length, span):
            part = slice(begin, begin + span)
            y, h_RHPN = _span(x[:, part], dt[:, part], a_H, b[:, part], c[:, part], h_RHPN, chunk)
            outputs.append(y)
        y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
        return torch.addcmul(y, d_H1, x), h_RHPN

    inputs = [t.to(wide) for t in (x_THP, dt_TH, b_TGN, c_TGN)]
    return over_rows(step, inputs, state_RHPN, segments)


def _one_token(
    x_RHP: Tensor, dt_RH: Tensor, a_H: Tensor, b_RGN: Tensor, c_RGN: Tensor, h_RHPN: Tensor
) -> tuple[Tensor, Tensor]:
    share = x_RHP.shape[1] // b_RGN.shape[1]
    b_RHN, c_RHN = b_RGN.repeat_interleave(share, 1), c_RGN.repeat_interleave(share, 1)
    update = (x_RHP * dt_RH[..., None])[..., None] * b_RHN[:, :, None, :]
    h_RHPN = torch.addcmul(update, h_RHPN, (dt_RH * a_H).exp()[..., None, None])
    return torch.matmul(h_RHPN, c_RHN[..., None])[..., 0], h_RHPN


def _span(
    x: Tensor, dt: Tensor, a_H: Tensor, b: Tensor, c: Tensor, h_RHPN: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Scans some chunks of every row: y [R, L, H, P] and the state after them."""
    rows, length, heads, head_dim = x.shape
    groups = b.shape[2]
    # A tail of dt = 0 neither decays nor adds to the state, so it changes nothing.
    pad = -length % chunk
    if pad:
        x, dt, b, c = (F.pad(t, (0, 0) * (t.dim() - 2) + (0, pad)) for t in (x, dt, b, c))

    def chunked(t: Tensor) -> Tensor:  # [R, L, h, d] -> [R, K, h, Q, d]
        return t.unflatten(1, (-1, chunk)).transpose(2, 3)

    x_RKHQP = chunked(x * dt[..., None])
    b_RKGQN, c_RKGQN = chunked(b), chunked(c)
    # Sums in float64: where time steps differ by orders of magnitude, the difference of two
    # float32 sums has lost the small ones.
    log_decay = (dt.double() * a_H).unflatten(1, (-1, chunk)).transpose(2, 3).cumsum(-1)  # [R, K, H, Q]
    share = heads // groups

    def decay(difference: Tensor) -> Tensor:
        return difference.to(x.dtype).exp()

    def by_group(t: Tensor) -> Tensor:  # [R, K, H, ...] -> [R, K, G, H/G, ...]
        return t.unflatten(2, (groups, share))

    def by_head(t: Tensor) -> Tensor:  # the inverse
        return t.flatten(2, 3)

    score_RKGQQ = torch.matmul(c_RKGQN, b_RKGQN.transpose(-1, -2))
    between = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill_(_future(chunk, x.device), -torch.inf)
    mixing = by_group(decay(between)) * score_RKGQQ[:, :, :, None]
    y = torch.matmul(by_head(mixing), x_RKHQP)

    to_end = x_RKHQP * decay(log_decay[..., -1:] - log_decay)[..., None]
    added = by_head(torch.matmul(by_group(to_end.transpose(-1, -2)), b_RKGQN[:, :, :, None]))
    whole = decay(log_decay[..., -1])[..., None, None]
    before = []
    for k in range(added.shape[1]):
        before.append(h_RHPN)
        h_RHPN = torch.addcmul(added[:, k], whole[:, k], h_RHPN)
    start_RKGHNP = by_group(torch.stack(before, 1)).transpose(-1, -2)
    carried = by_head(torch.matmul(c_RKGQN[:, :, :, None], start_RKGHNP))
    y = torch.addcmul(y, carried, decay(log_decay)[..., None])
    y = y.transpose(2, 3).reshape(rows, -1, heads, head_dim)
    return (y[:, :length] if pad else y), h_RHPN


def _future(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).triu_(1)
